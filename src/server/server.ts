// Owns the listening sockets and the sessions: start, drain, stop.

import { constants as osConstants } from "node:os";
import { addon } from "../addon/addon.js";
import { type Log, processLog } from "../addon/log.js";
import type {
  NativeLatencies,
  NativeListener,
  NativeServer,
  PeerAddress,
  RequestCounts,
} from "../addon/types.js";
import { AsyncnbdError, type ErrorCode, messageOf } from "../errors.js";
import { ExportTable } from "../exports/table.js";
import { notReturned } from "./plugin-end.js";
import {
  type ClientSession,
  type ClientStream,
  type OpenedSession,
  Session,
  type SessionEnd,
  type SessionSettings,
} from "./session.js";
import { NO_REQUESTS, type ServerStats, Statistics, sumOf } from "./statistics.js";
import { inTime, stopTimes } from "./stop-times.js";
import type { WorkerExport } from "./worker-export.js";

export interface ServerSettings extends SessionSettings {
  readonly readonly: boolean;
  readonly maxInFlightBytes: number;
  /** At once, others wait; may be Infinity. */
  readonly maxConnections: number;
  /** How long requests take is counted, by all threads that have the same of it. */
  readonly latencyGroup?: string;
}

/** What clients are served with: here, or on threads that each have the exports. */
export type Exports = ExportTable | WorkerExport;

/** A client that has been accepted. */
export interface ConnectedClient {
  /** The server's first, second, … one. */
  readonly number: number;
  readonly peer: PeerAddress;
}

/** One that has opened an export. */
export interface OpenedClient extends ConnectedClient, OpenedSession {}

/** One that has gone. Its requests are counted. */
export interface DisconnectedClient extends ConnectedClient, SessionEnd, RequestCounts {
  /** undefined: it has not come to open one. */
  readonly exportName: string | undefined;
  /** As the client has got to the export; false if it has not. */
  readonly isTls: boolean;
  /** How long it was there. */
  readonly durationMs: number;
}

/** What a program may want to hear of. */
export interface ServerObserver {
  onConnection?(client: ConnectedClient): void;
  /** Its handshake has succeeded. */
  onOpen?(client: OpenedClient): void;
  onDisconnection?(client: DisconnectedClient): void;
  /** It has been logged, and the server goes on. */
  onError?(error: AsyncnbdError): void;
}

/** When no descriptor or memory is left for another client, we try again after this. */
const ACCEPT_RETRY_MS = 100;

export class Server {
  readonly #exports: Exports;
  readonly #settings: ServerSettings;
  readonly #native: NativeServer;
  readonly #listeners: NativeListener[] = [];
  readonly #sessions = new Map<ClientSession, Promise<void>>();
  readonly #observer: ServerObserver;
  readonly #log: Log;
  readonly #onShutdownRequested: () => void;
  #sessionCount = 0;
  #isStopping = false;
  #isRef = true;
  readonly #opened = new Map<ClientSession, string>(); // the names of their exports
  readonly #latencies: NativeLatencies | undefined;
  readonly #statistics: Statistics;
  #past = NO_REQUESTS; // of clients that have disconnected

  /** onShutdownRequested: a plugin wants the server to stop. */
  constructor(
    exports: Exports,
    settings: ServerSettings,
    onShutdownRequested: () => void,
    observer: ServerObserver = {},
    log: Log = processLog,
  ) {
    this.#log = log;
    this.#observer = observer;
    this.#onShutdownRequested = onShutdownRequested;
    this.#exports = exports;
    this.#settings = settings;
    const { latencyGroup } = settings;
    this.#latencies =
      latencyGroup === undefined ? undefined : new (addon().NativeLatencies)(latencyGroup);
    this.#statistics = new Statistics(this.#latencies);
    for (const parts of exports.chains) log.debug(`chain: ${parts.join(" > ")}`);
    this.#native = new (addon().NativeServer)(
      onShutdownRequested,
      settings.maxInFlightBytes,
      log.native,
    );
  }

  /**
   * Accepts clients from listening sockets, which it takes over. To be called, without any too, once
   * the exports have been started.
   */
  listen(fds: readonly number[]): void {
    // The caller may not expect to be called back at once.
    if (this.#exports.isShutdownRequested) setImmediate(this.#onShutdownRequested);
    for (const fd of fds) {
      const listener = new (addon().NativeListener)(fd, (clientFd, errno) =>
        clientFd === -1 ? this.#acceptFailed(errno) : this.#accept(clientFd),
      );
      listener.setRef(this.#isRef);
      this.#listeners.push(listener);
    }
    this.#resume();
  }

  get stats(): ServerStats {
    const sessions = [...this.#sessions.keys()];
    const counts = sessions.reduce((sum, session) => sumOf(sum, session.counts), this.#past);
    const { commands: _, ...requests } = counts;
    const live = [...this.#opened].map(
      ([session, exportName]) => [exportName, session.counts] as const,
    );
    return {
      connections: sessions.length,
      totalConnections: this.#sessionCount,
      ...requests,
      exports: this.#statistics.exports(live),
    };
  }

  /** Serves one client on descriptors it takes over. Resolves when the client has disconnected. */
  async serve(inFd: number, outFd: number): Promise<void> {
    const number = ++this.#sessionCount;
    const client = { number, peer: addon().peerOf(outFd) }; // before anybody else has it
    const session = this.#newSession({
      inFd,
      outFd,
      number,
      readonly: this.#settings.readonly,
      threads: this.#settings.threads,
    });
    session.setRef(this.#isRef);
    const running = this.#run(session, client);
    this.#sessions.set(session, running);
    this.#observer.onConnection?.(client);
    if (this.#isFull) this.#pause();
    await running;
  }

  async #run(session: ClientSession, client: ConnectedClient): Promise<void> {
    const begunMs = performance.now();
    let opened: OpenedSession | undefined;
    const onOpen = (facts: OpenedSession): void => {
      opened = facts;
      this.#opened.set(session, facts.exportName);
      this.#statistics.begin(facts.exportName);
      this.#observer.onOpen?.({ ...client, ...facts });
    };
    const end = await session.run(onOpen).catch((error: unknown): SessionEnd => {
      this.#failed("CONNECTION_FAILED", "client connection failed", error);
      return { reason: "failed", detail: messageOf(error) };
    });
    this.#sessions.delete(session);
    this.#opened.delete(session);
    const { commands: _, ...counts } = session.counts;
    this.#past = sumOf(this.#past, session.counts);
    if (opened !== undefined) this.#statistics.end(opened.exportName, session.counts);
    const { exportName, isTls = false } = opened ?? { exportName: undefined };
    const durationMs = performance.now() - begunMs;
    this.#observer.onDisconnection?.({
      ...client,
      exportName,
      isTls,
      ...end,
      durationMs,
      ...counts,
    });
    this.#resume();
  }

  /** Whether the process stays alive for it, as it does at first. */
  setRef(isRef: boolean): void {
    this.#isRef = isRef;
    for (const listener of this.#listeners) listener.setRef(isRef);
    for (const session of this.#sessions.keys()) session.setRef(isRef);
    this.#native.setRef(isRef);
    this.#exports.setRef(isRef);
  }

  /**
   * No new clients; requests that have arrived are answered; everything closes. Resolves with
   * true when that is done, and with false if plugin calls do not return or requests have never
   * got a reply: then an export is still in use and must not end. Within the grace.
   */
  async stop(graceMs = this.#settings.graceMs): Promise<boolean> {
    try {
      return await this.#stop(graceMs);
    } finally {
      this.#native.release();
    }
  }

  async #stop(graceMs: number): Promise<boolean> {
    const { answersMs, cutMs, endMs } = stopTimes(graceMs);
    const drained = this.#drain(answersMs)
      .then(() => this.#exports.drained())
      .then((unused) => ({ unused }));
    const timely = await inTime(drained, cutMs);
    if (timely) return timely.unused;
    for (const session of this.#sessions.keys()) session.abort();
    const late = await inTime(drained, endMs - cutMs);
    if (late) return late.unused;
    this.#log.error(`${notReturned(this.#unreturned, endMs)}: giving up`);
    return false;
  }

  get #unreturned(): string {
    const names = this.#exports.pluginNames.join(", ");
    const clients = this.#sessions.size;
    if (clients === 0) return `${names}: closing what all clients share`;
    return `${names}: a close or another call for ${clients === 1 ? "a client" : `${clients} clients`}`;
  }

  /** Whether new clients are refused. */
  get isStopping(): boolean {
    return this.#isStopping;
  }

  #newSession(stream: ClientStream): ClientSession {
    const exports = this.#exports;
    return exports instanceof ExportTable
      ? new Session(this.#native, exports, stream, this.#settings, this.#latencies)
      : exports.newClientSession(stream, this.#settings);
  }

  async #drain(answersMs: number): Promise<void> {
    this.#isStopping = true;
    for (const listener of this.#listeners.splice(0)) listener.close();
    // Connections must have their grace before the announcement has them count it.
    for (const session of this.#sessions.keys()) session.stop(answersMs);
    this.#native.announceStop();
    await Promise.all(this.#sessions.values());
  }

  #accept(fd: number): void {
    void this.serve(fd, fd);
  }

  #acceptFailed(errno: number): void {
    const name =
      Object.entries(osConstants.errno).find(([, value]) => value === errno)?.[0] ?? `${errno}`;
    this.#failed("ACCEPT_FAILED", "cannot accept a client, retrying", new Error(name));
    this.#pause();
    setTimeout(() => this.#resume(), ACCEPT_RETRY_MS).unref();
  }

  #failed(code: ErrorCode, what: string, cause: unknown): void {
    const words = `${what}: ${messageOf(cause)}`;
    this.#log.error(words);
    this.#observer.onError?.(new AsyncnbdError(code, words, { cause }));
  }

  #pause(): void {
    for (const listener of this.#listeners) listener.pause();
  }

  /** The next client waits until one disconnects. */
  get #isFull(): boolean {
    return this.#sessions.size >= this.#settings.maxConnections;
  }

  #resume(): void {
    if (this.#isFull) return;
    for (const listener of this.#listeners) listener.resume();
  }
}
