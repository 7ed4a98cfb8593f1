// The server inside another program, once it has started: what serve() returns.

import { randomUUID } from "node:crypto";
import { EventEmitter } from "node:events";
import { fstatSync } from "node:fs";
import { inspect } from "node:util";
import { addon } from "../addon/addon.js";
import { keepLibrariesAtExit, leaveCallsIf } from "../addon/exit.js";
import type { Log } from "../addon/log.js";
import { clientLimits } from "../client-limits.js";
import {
  ALL_HANDSHAKE_FLAGS,
  DEFAULT_HANDSHAKE_TIMEOUT_MS,
  DEFAULT_MAX_IN_FLIGHT_BYTES,
} from "../config/defaults.js";
import type { Endpoint } from "../config/listeners/index.js";
import { uriOf } from "../config/uri.js";
import { AsyncnbdError, messageOf } from "../errors.js";
import type { Reload } from "../plugins/reload.js";
import { describeThrown } from "../plugins/script/errno.js";
import type { OpenListeners } from "./listen.js";
import { exportsOf, type ServedExport } from "./open-export.js";
import { endInTime } from "./plugin-end.js";
import { checkCloseOptions } from "./serve-options.js";
import type { ServeOptions } from "./serve-types.js";
import {
  type ConnectedClient,
  type DisconnectedClient,
  type OpenedClient,
  Server,
  type ServerObserver,
  type ServerSettings,
} from "./server.js";
import type { ServerStats } from "./statistics.js";
import { pluginEndMs } from "./stop-times.js";
import { closeTls, type OpenTls } from "./tls.js";

export interface ServerEvents {
  /** A client has connected. */
  connection: [client: ConnectedClient];
  /** It has opened an export, and may send requests. */
  open: [client: OpenedClient];
  /** It has gone, and why. */
  disconnection: [client: DisconnectedClient];
  /** With `watch`: a new version of the plugin has taken over; on each thread, if there are workers. */
  reload: [reload: { readonly path: string; readonly clientsLeft: number }];
  /** It could not: clients stay with the old one. */
  reloadError: [error: AsyncnbdError];
  /** A connection failed or could not be accepted. The server goes on; a listener is optional. */
  error: [error: AsyncnbdError];
  /** All is over. */
  close: [];
}

export class NbdServer extends EventEmitter<ServerEvents> implements AsyncDisposable {
  /** For clients; undefined if the server does not listen. */
  readonly uri: string | undefined;
  /** Where it listens. */
  readonly endpoint: Endpoint | undefined;
  readonly #export: ServedExport;
  readonly #server: Server;
  readonly #listeners: OpenListeners | undefined;
  readonly #tls: OpenTls;
  readonly #graceMs: number;
  readonly #log: Log;
  readonly #signal: AbortSignal | undefined;
  readonly #onAbort = (): void => this.#closeUnasked();
  #closed: Promise<boolean> | undefined;
  #hasGivenUp = false;
  readonly #hasClosed = leaveCallsIf(() => this.getStats().inFlight > 0);

  /** @internal Use serve(). */
  constructor(
    served: ServedExport,
    options: ServeOptions,
    tls: OpenTls,
    listeners: OpenListeners | undefined,
    log: Log,
  ) {
    super();
    this.#log = log;
    this.#export = served;
    this.#listeners = listeners;
    this.endpoint = listeners?.endpoint;
    this.#tls = tls;
    this.uri = listeners && uriOf(listeners.endpoint, "", { ...options.tls, mode: tls.mode });
    const onShutdownRequested = () => this.#closeUnasked();
    const settings = settingsOf(options, tls);
    this.#graceMs = settings.graceMs;
    this.#server = new Server(
      exportsOf(served),
      settings,
      onShutdownRequested,
      this.#observer,
      log,
    );
    this.#server.listen(listeners?.fds ?? []);
    this.#signal = options.signal;
    this.#signal?.addEventListener("abort", this.#onAbort);
    if (this.#signal?.aborted) this.#onAbort(); // by a logger, just now
  }

  /** Nobody else may hear of a failure. */
  #closeUnasked(): void {
    this.close().catch((error: unknown) => this.#log.error(messageOf(error)));
  }

  get #observer(): ServerObserver {
    return {
      onConnection: (client) => this.#tell("connection", client),
      onOpen: (client) => this.#tell("open", client),
      onDisconnection: (client) => this.#tell("disconnection", client),
      onError: (error) => this.#tell("error", error),
    };
  }

  /** Serves a client on a connected socket, which it takes over, until the client disconnects. */
  async connect(fd: number): Promise<void> {
    this.#refuseIfClosed("connect");
    if (!isSocket(fd))
      throw new AsyncnbdError("NOT_A_SOCKET", `connect: ${inspect(fd)} is not a socket descriptor`);
    await this.#server.serve(fd, fd);
  }

  /**
   * Serves a client on one end of a new pair of connected sockets. Returns the other end, a
   * descriptor that is the caller's: for `new net.Socket({ fd })`, or a child's stdio.
   */
  connectPair(): number {
    this.#refuseIfClosed("connectPair");
    const [ours, theirs] = addon().socketPair();
    void this.connect(ours);
    return theirs;
  }

  /** The process stays alive for the server and its clients, as it does at first. */
  ref(): this {
    if (!this.#hasGivenUp) this.#server.setRef(true);
    return this;
  }

  /**
   * As of net.Server, and for its clients too: the process may end while it serves. Without a close()
   * the plugin's end is not called then, and a socket of its own is left to be removed later.
   */
  unref(): this {
    keepLibrariesAtExit();
    this.#server.setRef(false);
    return this;
  }

  /** What its clients have asked for so far, by export and kind of request. */
  getStats(): ServerStats {
    return this.#server.stats;
  }

  /**
   * No new clients; requests that have arrived are answered; then the plugin ends. Resolves with
   * false if some had no answer after `graceMs`, or a callback has not returned, which the log names:
   * a C plugin is then left in memory, and nothing of it keeps the process alive.
   */
  close(options: { readonly graceMs?: number } = {}): Promise<boolean> {
    checkCloseOptions(options);
    this.#closed ??= this.#close(options.graceMs);
    return this.#closed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #refuseIfClosed(method: string): void {
    if (this.#server.isStopping)
      throw new AsyncnbdError("SERVER_CLOSED", `${method}: the server is closed`);
  }

  /** Those that have not returned may never do so. */
  #leaveCalls(): void {
    this.unref();
    this.#hasGivenUp = true;
    addon().endWithoutDestructors();
  }

  async #close(graceMs = this.#graceMs): Promise<boolean> {
    const begunMs = performance.now();
    this.#signal?.removeEventListener("abort", this.#onAbort); // it may outlive many servers
    this.ref(); // the plugin is to come to its end
    let isOver = false;
    try {
      isOver = await this.#server.stop(graceMs);
      this.#listeners?.cleanUp();
      closeTls(this.#tls);
      if (isOver) isOver = await endInTime(this.#export, pluginEndMs(graceMs, begunMs), this.#log);
      return isOver;
    } finally {
      await this.#log.drained();
      if (!isOver) this.#leaveCalls();
      this.#hasClosed();
      this.#tell("close"); // also where the plugin's end fails: there is no server any more
    }
  }

  /** @internal */
  hasReloaded({ path, error, clientsLeft }: Reload): void {
    if (error === undefined) this.#tell("reload", { path, clientsLeft });
    else this.#tell("reloadError", error);
  }

  /** As emit; but a listener that throws, or rejects, is logged, and harms neither us nor others. */
  #tell<Name extends keyof ServerEvents>(name: Name, ...args: ServerEvents[Name]): void {
    for (const listener of this.rawListeners(name) as ((...args: unknown[]) => unknown)[])
      tell(name, () => listener.apply(this, args), this.#log);
  }
}

const settingsOf = (options: ServeOptions, tls: OpenTls): ServerSettings => ({
  readonly: options.readonly ?? false,
  ...clientLimits(options),
  maxInFlightBytes: options.maxInFlightBytes ?? DEFAULT_MAX_IN_FLIGHT_BYTES,
  handshakeTimeoutMs: options.handshakeTimeoutMs ?? DEFAULT_HANDSHAKE_TIMEOUT_MS,
  handshakeFlagsMask: ALL_HANDSHAKE_FLAGS,
  structuredReplies: true,
  extendedHeaders: true,
  tls: tls.mode,
  tlsContext: tls.context,
  metaContexts: true,
  shortcuts: true,
  oldstyle: false,
  maxConnections: options.maxConnections ?? Number.POSITIVE_INFINITY,
  ...(options.stats === "latency" && { latencyGroup: `server ${randomUUID()}` }),
});

function tell(name: string, listener: () => unknown, log: Log): void {
  const report = (error: unknown): void =>
    log.error(`a listener of "${name}" failed: ${describeThrown(error)}`);
  try {
    const told = listener();
    if (told instanceof Promise) told.catch(report);
  } catch (error) {
    report(error);
  }
}

function isSocket(fd: unknown): boolean {
  try {
    return fstatSync(fd as number).isSocket();
  } catch {
    return false;
  }
}
