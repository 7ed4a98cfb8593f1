// The server inside another program: serve() and what it returns.

import { EventEmitter } from "node:events";
import { fstatSync } from "node:fs";
import { inspect } from "node:util";
import { addon } from "../addon/addon.js";
import type { RequestCounts } from "../addon/types.js";
import {
  ALL_HANDSHAKE_FLAGS,
  DEFAULT_GRACE_MS,
  DEFAULT_HANDSHAKE_TIMEOUT_MS,
  DEFAULT_MAX_CONNECTION_IN_FLIGHT_BYTES,
  DEFAULT_MAX_IN_FLIGHT_BYTES,
  DEFAULT_SPIN_MS,
  DEFAULT_STALL_TIMEOUT_MS,
  DEFAULT_THREADS,
} from "../config/defaults.js";
import type { Listen } from "../config/schema.js";
import type { TlsPriority } from "../config/tls.js";
import { type Endpoint, uriOf } from "../config/uri.js";
import { AsyncnbdError } from "../errors.js";
import { Chain } from "../exports/chain.js";
import { Export } from "../exports/export.js";
import type { FilterChoice } from "../filters/choice.js";
import type { Parameter } from "../plugins/life.js";
import { scriptOf } from "../plugins/program.js";
import type { Plugin } from "../plugins/script/definition.js";
import { ScriptPlugin } from "../plugins/script/script-plugin.js";
import { abandon, type OpenListeners, openListeners } from "./listen.js";
import { exportsOf, openExport, type ServedExport } from "./open-export.js";
import { checkCloseOptions, checkServeOptions } from "./serve-options.js";
import { Server } from "./server.js";
import { closeTls, NO_TLS, type OpenTls, openTls } from "./tls.js";

/** A unix socket, a TCP port (0: any free one), or nothing: then only `connect` brings clients. */
export type ListenOn =
  | { readonly unix: string }
  | { readonly port: number; readonly host?: string }
  | "private-unix"
  | "nothing";

export type ConfigValue = string | number | boolean;

export interface ServeOptions {
  /** A plugin object, or what the command takes: a C plugin's name or path, or a module's. */
  readonly plugin: Plugin | string;
  /** The plugin's parameters; an array for one that may be given more than once. */
  readonly config?: Readonly<Record<string, ConfigValue | readonly ConfigValue[]>>;
  /** In front of the plugin, in TypeScript or in C: clients meet the first. */
  readonly filters?: readonly FilterChoice[];
  /** By default a unix socket of its own that nobody but this user can reach. */
  readonly listen?: ListenOn;
  readonly readonly?: boolean;
  /** Closes the server when it fires. */
  readonly signal?: AbortSignal;
  /**
   * Threads for a plugin in TypeScript that is given as a path or a package: each has an instance
   * of it and a share of the clients. By default none: all is on the calling thread.
   */
  readonly workers?: number;
  /** Calls of a C plugin in progress at once on a connection. By default 16. */
  readonly threads?: number;
  /** Of requests in flight on all connections, and on each. By default 1 GiB and 256 MiB. */
  readonly maxInFlightBytes?: number;
  readonly maxConnectionInFlightBytes?: number;
  /** By default none is offered. */
  readonly tls?: ServeTls;
  /** At once; others wait until one leaves. By default as many as the system has descriptors for. */
  readonly maxConnections?: number;
  /** How long requests without an answer delay the end of a connection. By default 30 s. */
  readonly graceMs?: number;
  /**
   * How long a client may send next to nothing of a request that it has begun, or take next to
   * nothing of its replies. By default 5 min; 0 for ever.
   */
  readonly stallTimeoutMs?: number;
  /** How long a handshake may take. By default 30 s. */
  readonly handshakeTimeoutMs?: number;
}

/** Encryption: by certificates, or by pre-shared keys. */
export interface ServeTls {
  /** "on": where clients want it. By default "require". */
  readonly mode?: "on" | "require";
  /** A directory with ca-cert.pem, server-cert.pem, server-key.pem and perhaps ca-crl.pem. */
  readonly certificates?: string;
  /** A file with lines of USER:KEY, in hexadecimal digits, instead of certificates. */
  readonly preSharedKeys?: string;
  /** Clients must have a certificate of an authority in ca-cert.pem. */
  readonly verifyPeer?: boolean;
  readonly priority?: TlsPriority;
}

export interface ServerEvents {
  /** A client has connected, the server's first, second, … one. */
  connection: [number: number];
  disconnection: [number: number];
  /** A connection failed or could not be accepted. The server goes on; a listener is optional. */
  error: [error: AsyncnbdError];
  /** All is over. */
  close: [];
}

/** Since the start. Clients on `workers` are counted when they disconnect. */
export interface ServerStats extends RequestCounts {
  readonly connections: number;
  readonly totalConnections: number;
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
  #closed: Promise<boolean> | undefined;

  /** @internal Use serve(). */
  constructor(
    served: ServedExport,
    options: ServeOptions,
    tls: OpenTls,
    listeners: OpenListeners | undefined,
  ) {
    super();
    this.#export = served;
    this.#listeners = listeners;
    this.endpoint = listeners?.endpoint;
    this.#tls = tls;
    this.uri = listeners && uriOf(listeners.endpoint, "", { ...options.tls, mode: tls.mode });
    const settings = {
      readonly: options.readonly ?? false,
      threads: options.threads ?? DEFAULT_THREADS,
      spinUs: DEFAULT_SPIN_MS * 1000,
      maxInFlightBytes: options.maxInFlightBytes ?? DEFAULT_MAX_IN_FLIGHT_BYTES,
      maxConnectionInFlightBytes:
        options.maxConnectionInFlightBytes ?? DEFAULT_MAX_CONNECTION_IN_FLIGHT_BYTES,
      graceMs: options.graceMs ?? DEFAULT_GRACE_MS,
      stallTimeoutMs: options.stallTimeoutMs ?? DEFAULT_STALL_TIMEOUT_MS,
      handshakeTimeoutMs: options.handshakeTimeoutMs ?? DEFAULT_HANDSHAKE_TIMEOUT_MS,
      handshakeFlagsMask: ALL_HANDSHAKE_FLAGS,
      structuredReplies: true,
      extendedHeaders: true,
      tls: this.#tls.mode,
      tlsContext: this.#tls.context,
      metaContexts: true,
      shortcuts: true,
      oldstyle: false,
      maxConnections: options.maxConnections ?? Number.POSITIVE_INFINITY,
    };
    this.#server = new Server(exportsOf(served), settings, () => void this.close(), {
      onConnection: (number) => this.emit("connection", number),
      onDisconnection: (number) => this.emit("disconnection", number),
      onError: (error) => {
        if (this.listenerCount("error") > 0) this.emit("error", error); // it would throw
      },
    });
    this.#server.listen(listeners?.fds ?? []);
    options.signal?.addEventListener("abort", () => void this.close(), { once: true });
    if (options.signal?.aborted) void this.close(); // while it was starting
  }

  /** Serves a client on a connected socket, which it takes over, until the client disconnects. */
  async connect(fd: number): Promise<void> {
    this.#refuseIfClosed("connect");
    if (!isSocket(fd))
      throw new AsyncnbdError("CONFIG", `connect: ${inspect(fd)} is not a socket descriptor`);
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

  stats(): ServerStats {
    const { open: connections, total: totalConnections, ...requests } = this.#server.counts;
    return { connections, totalConnections, ...requests };
  }

  /**
   * No new clients; requests that have arrived are answered; then the plugin ends. Resolves with
   * false if some had no answer after `graceMs`: a C plugin is then left in memory.
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
      throw new AsyncnbdError("CONFIG", `${method}: the server is closed`);
  }

  async #close(graceMs: number | undefined): Promise<boolean> {
    const isOver = await this.#server.stop(graceMs);
    this.#listeners?.cleanUp();
    closeTls(this.#tls);
    if (isOver) await this.#export.end();
    this.emit("close");
    return isOver;
  }
}

function isSocket(fd: unknown): boolean {
  try {
    return fstatSync(fd as number).isSocket();
  } catch {
    return false;
  }
}

function listenersFor(where: ListenOn): OpenListeners | undefined {
  if (where === "nothing") return undefined;
  return openListeners(listenOf(where));
}

function listenOf(where: Exclude<ListenOn, "nothing">): Exclude<Listen, { kind: "stdio" }> {
  if (where === "private-unix") return { kind: "private-unix" };
  if ("unix" in where) return { kind: "unix", path: where.unix };
  return { kind: "tcp", host: where.host ?? "", port: String(where.port), family: 0 };
}

async function exportFor(options: ServeOptions): Promise<ServedExport> {
  const { plugin, filters = [], workers = 0 } = options;
  if (typeof plugin === "string") return openExport({ plugin, filters, watch: false }, workers);
  if (workers > 0)
    throw new AsyncnbdError(
      "CONFIG",
      "workers: a plugin object cannot run on several threads; give the path of its module",
    );
  return new Export(await Chain.of(new ScriptPlugin(plugin, plugin.name), filters));
}

/**
 * Starts a server in this program. Resolves when clients can connect; rejects with an
 * AsyncnbdError that says what is wrong with the plugin, its parameters or the socket.
 *
 * @example
 * await using server = await serve({ plugin: disk, config: { size: "1G" } });
 * console.log(server.uri);
 */
export async function serve(options: ServeOptions): Promise<NbdServer> {
  checkServeOptions(options);
  options.signal?.throwIfAborted();
  const tls = tlsFor(options.tls);
  try {
    return await start(options, tls);
  } catch (error) {
    closeTls(tls);
    throw error;
  }
}

function tlsFor(given: ServeTls | undefined): OpenTls {
  if (given === undefined) return NO_TLS;
  const { mode = "require", certificates, preSharedKeys, verifyPeer = false } = given;
  return openTls({ mode, certificates, preSharedKeys, verifyPeer, priority: given.priority ?? {} });
}

/** A plugin that is a script is one of its interpreter's, with the script as a parameter. */
function withScript(options: ServeOptions): ServeOptions {
  const found = typeof options.plugin === "string" ? scriptOf(options.plugin) : undefined;
  if (found === undefined) return options;
  const { plugin, script } = found;
  return { ...options, plugin, config: { script, ...options.config } };
}

async function start(given: ServeOptions, tls: OpenTls): Promise<NbdServer> {
  const options = withScript(given);
  const served = await exportFor(options);
  try {
    return await startExport(served, options, tls);
  } catch (error) {
    // The program goes on: what the plugin has taken comes back. The first error is the one to tell.
    await served.end().catch(() => {});
    throw error;
  }
}

const parametersOf = ({ config = {} }: ServeOptions): Parameter[] =>
  Object.entries(config).flatMap(([key, value]) =>
    ([value].flat() as ConfigValue[]).map((one) => [key, one] as const),
  );

async function startExport(
  served: ServedExport,
  options: ServeOptions,
  tls: OpenTls,
): Promise<NbdServer> {
  await served.load();
  await served.getReady(parametersOf(options));
  const listeners = listenersFor(options.listen ?? "private-unix");
  try {
    await served.afterFork();
    return new NbdServer(served, options, tls, listeners);
  } catch (error) {
    if (listeners !== undefined) abandon(listeners);
    throw error;
  }
}
