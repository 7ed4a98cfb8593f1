// The server inside another program: serve() and what it returns.

import { randomUUID } from "node:crypto";
import { EventEmitter } from "node:events";
import { fstatSync } from "node:fs";
import { inspect } from "node:util";
import { addon } from "../addon/addon.js";
import { type Log, type Logger, logOf, processLog } from "../addon/log.js";
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
import type { FilterDefinition } from "../filters/filter.js";
import type { Parameter } from "../plugins/life.js";
import { scriptOf } from "../plugins/program.js";
import type { Reload } from "../plugins/reload.js";
import type { Plugin, PluginDefinition } from "../plugins/script/definition.js";
import { describeThrown } from "../plugins/script/errno.js";
import type {
  ConfigValue,
  GivenConfig,
  LooseConfig,
  NoParameters,
} from "../plugins/script/given-config.js";
import { ScriptPlugin } from "../plugins/script/script-plugin.js";
import { abandon, type OpenListeners, openListeners } from "./listen.js";
import { exportsOf, openExport, type ServedExport } from "./open-export.js";
import { checkCloseOptions, checkServeOptions } from "./serve-options.js";
import {
  type ConnectedClient,
  type DisconnectedClient,
  type OpenedClient,
  Server,
  type ServerObserver,
} from "./server.js";
import type { ServerStats } from "./statistics.js";
import { closeTls, NO_TLS, type OpenTls, openTls } from "./tls.js";

/** A unix socket, a TCP port (0: any free one), or nothing: then only `connect` brings clients. */
export type ListenOn =
  | { readonly unix: string }
  | { readonly port: number; readonly host?: string }
  | "private-unix"
  | "nothing";

/** By declarations where they are known; plugins and filters that are named take anything. */
type PluginPart<P> =
  P extends PluginDefinition<infer Spec, infer _Handle> ? GivenConfig<Spec> : LooseConfig;
type FilterPart<F> = F extends string
  ? LooseConfig
  : F extends FilterDefinition<infer Spec>
    ? GivenConfig<Spec>
    : unknown; // middleware has none
type OfAll<F> = (F extends unknown ? (part: FilterPart<F>) => void : never) extends (
  part: infer Parts,
) => void
  ? Parts
  : never;
type ConfigFor<P, F> = unknown extends PluginPart<P> & OfAll<F>
  ? NoParameters
  : PluginPart<P> & OfAll<F>;
type ConfigOption<Config> =
  Record<never, never> extends Config ? { readonly config?: Config } : { readonly config: Config };

/** ServeOptions of a plugin and filters whose parameters the compiler knows. */
export type ServeOptionsFor<P extends Plugin | string, F extends readonly FilterChoice[]> = Omit<
  ServeOptions,
  "plugin" | "filters" | "config"
> & {
  readonly plugin: P;
  readonly filters?: F;
} & ConfigOption<ConfigFor<P, F[number]>>;

export interface ServeOptions {
  /** A plugin object, or what the command takes: a C plugin's name or path, or a module's. */
  readonly plugin: Plugin | string;
  /** The plugin's parameters; an array for one that may be given more than once. */
  readonly config?: LooseConfig;
  /** In front of the plugin, in TypeScript or in C: clients meet the first. */
  readonly filters?: readonly FilterChoice[];
  /** By default a unix socket of its own that nobody but this user can reach. */
  readonly listen?: ListenOn;
  readonly readonly?: boolean;
  /**
   * Loads the module of a plugin in TypeScript, which is given by its path, again when it or another
   * module of its folder changes: see the events `reload` and `reloadError`.
   */
  readonly watch?: boolean;
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
  /**
   * Gets all lines of this server and its plugin, and standard error none: pino, console, or what
   * else has `debug`, `info`, `warn` and `error`. Each is called with one string.
   */
  readonly logger?: Logger;
  /** What getStats() tells: "latency": also how long requests take. By default "counts". */
  readonly stats?: "counts" | "latency";
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
  readonly #log: Log;
  readonly #signal: AbortSignal | undefined;
  readonly #onAbort = (): void => void this.close();
  #closed: Promise<boolean> | undefined;

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
      ...(options.stats === "latency" && { latencyGroup: `server ${randomUUID()}` }),
    };
    const observer: ServerObserver = {
      onConnection: (client) => this.#tell("connection", client),
      onOpen: (client) => this.#tell("open", client),
      onDisconnection: (client) => this.#tell("disconnection", client),
      onError: (error) => this.#tell("error", error),
    };
    const onShutdownRequested = () => void this.close();
    this.#server = new Server(exportsOf(served), settings, onShutdownRequested, observer, log);
    this.#server.listen(listeners?.fds ?? []);
    this.#signal = options.signal;
    this.#signal?.addEventListener("abort", this.#onAbort);
    if (options.signal?.aborted) void this.close(); // while it was starting
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
    this.#server.setRef(true);
    return this;
  }

  /**
   * As of net.Server, and for its clients too: the process may end while it serves. Without a close()
   * the plugin's end is not called then, and a socket of its own is left to be removed later.
   */
  unref(): this {
    // Threads may be in a C plugin while the process ends: its code must not be taken away.
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
      throw new AsyncnbdError("SERVER_CLOSED", `${method}: the server is closed`);
  }

  async #close(graceMs: number | undefined): Promise<boolean> {
    this.#signal?.removeEventListener("abort", this.#onAbort); // it may outlive many servers
    this.ref(); // the plugin is to come to its end
    try {
      const isOver = await this.#server.stop(graceMs);
      this.#listeners?.cleanUp();
      closeTls(this.#tls);
      if (isOver) await this.#export.end();
      return isOver;
    } finally {
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

const keepLibraries = (): void => addon().keepLibraries();

/** Once, however often it is asked for. */
function keepLibrariesAtExit(): void {
  process.off("exit", keepLibraries);
  process.on("exit", keepLibraries);
}

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

function listenersFor(where: ListenOn, log: Log): OpenListeners | undefined {
  if (where === "nothing") return undefined;
  return openListeners(listenOf(where), log);
}

function listenOf(where: Exclude<ListenOn, "nothing">): Exclude<Listen, { kind: "stdio" }> {
  if (where === "private-unix") return { kind: "private-unix" };
  if ("unix" in where) return { kind: "unix", path: where.unix };
  return { kind: "tcp", host: where.host ?? "", port: String(where.port), family: 0 };
}

async function exportFor(
  options: ServeOptions,
  log: Log,
  onReload: (reload: Reload) => void,
): Promise<ServedExport> {
  const { plugin, filters = [], workers = 0, watch = false } = options;
  if (typeof plugin === "string")
    return openExport({ plugin, filters, watch, logTo: log, onReload }, workers);
  if (watch)
    throw new AsyncnbdError(
      "WATCH_IMPOSSIBLE",
      "watch: a plugin object cannot be loaded again; give the path of its module",
    );
  if (workers > 0)
    throw new AsyncnbdError(
      "WORKERS_IMPOSSIBLE",
      "workers: a plugin object cannot run on several threads; give the path of its module",
    );
  return new Export(await Chain.of(new ScriptPlugin(plugin, plugin.name, log), filters, log));
}

/**
 * Starts a server in this program. Resolves when clients can connect; rejects with an
 * AsyncnbdError that says what is wrong with the plugin, its parameters or the socket. `config` has
 * the types of the plugin's declaration, and of its filters', unless one is given by name.
 *
 * @example
 * await using server = await serve({ plugin: disk, config: { size: "1G" } });
 * console.log(server.uri);
 */
export async function serve<
  P extends Plugin | string,
  const F extends readonly FilterChoice[] = readonly [],
>(given: ServeOptionsFor<P, F>): Promise<NbdServer> {
  const options: unknown = given;
  checkServeOptions(options);
  options.signal?.throwIfAborted();
  const log = options.logger === undefined ? processLog : logOf(options.logger);
  const tls = tlsFor(options.tls, log);
  try {
    return await start(options, tls, log);
  } catch (error) {
    closeTls(tls);
    throw error;
  }
}

function tlsFor(given: ServeTls | undefined, log: Log): OpenTls {
  if (given === undefined) return NO_TLS;
  const { mode = "require", certificates, preSharedKeys, verifyPeer = false } = given;
  const priority = given.priority ?? {};
  return openTls({ mode, certificates, preSharedKeys, verifyPeer, priority }, log);
}

/** A plugin that is a script is one of its interpreter's, with the script as a parameter. */
function withScript(options: ServeOptions): ServeOptions {
  const found = typeof options.plugin === "string" ? scriptOf(options.plugin) : undefined;
  if (found === undefined) return options;
  const { plugin, script } = found;
  return { ...options, plugin, config: { script, ...options.config } };
}

async function start(given: ServeOptions, tls: OpenTls, log: Log): Promise<NbdServer> {
  const options = withScript(given);
  let server: NbdServer | undefined;
  const served = await exportFor(options, log, (reload) => server?.hasReloaded(reload));
  try {
    server = await startExport(served, options, tls, log);
    return server;
  } catch (error) {
    // The program goes on: what the plugin has taken comes back. The first error is the one to tell.
    await served.end().catch(() => {});
    throw error;
  }
}

const parametersOf = ({ config = {} }: ServeOptions): Parameter[] =>
  Object.entries(config)
    .filter(([, value]) => value !== undefined)
    .flatMap(([key, value]) => ([value].flat() as ConfigValue[]).map((one) => [key, one] as const));

async function startExport(
  served: ServedExport,
  options: ServeOptions,
  tls: OpenTls,
  log: Log,
): Promise<NbdServer> {
  await served.load();
  await served.getReady(parametersOf(options));
  const listeners = listenersFor(options.listen ?? "private-unix", log);
  try {
    await served.afterFork();
    return new NbdServer(served, options, tls, listeners, log);
  } catch (error) {
    if (listeners !== undefined) abandon(listeners);
    throw error;
  }
}
