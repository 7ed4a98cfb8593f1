// Owns the listening sockets and the sessions: start, drain, stop.

import { constants as osConstants } from "node:os";
import { addon } from "../addon/addon.js";
import type { NativeListener, NativeServer, RequestCounts } from "../addon/types.js";
import { AsyncnbdError, messageOf } from "../errors.js";
import { ExportTable } from "../exports/table.js";
import {
  type ClientSession,
  type ClientStream,
  NO_REQUESTS,
  Session,
  type SessionSettings,
} from "./session.js";
import type { WorkerExport } from "./worker-export.js";

export interface ServerSettings extends SessionSettings {
  readonly readonly: boolean;
  readonly maxInFlightBytes: number;
  /** At once, others wait; may be Infinity. */
  readonly maxConnections: number;
}

/** What clients are served with: here, or on threads that each have the exports. */
export type Exports = ExportTable | WorkerExport;

/** What a program may want to hear of. */
export interface ServerObserver {
  onConnection?(number: number): void;
  onDisconnection?(number: number): void;
  /** It has been logged, and the server goes on. */
  onError?(error: AsyncnbdError): void;
}

/** When no descriptor or memory is left for another client, we try again after this. */
const ACCEPT_RETRY_MS = 100;

/** When a stopping connection should have ended by itself, after its grace. */
const STOP_MARGIN_MS = 2_000;

/** A plugin's call that has no client any more gets no more than this to return. */
const ABORT_GRACE_MS = 5_000;

/** Resolves with false; does not keep the process alive. */
const after = (delayMs: number): Promise<false> =>
  new Promise((resolve) => {
    setTimeout(() => resolve(false), delayMs).unref();
  });

function sum(counts: RequestCounts, { counts: more }: ClientSession): RequestCounts {
  return {
    requests: counts.requests + more.requests,
    failedRequests: counts.failedRequests + more.failedRequests,
    readBytes: counts.readBytes + more.readBytes,
    writtenBytes: counts.writtenBytes + more.writtenBytes,
    inFlight: counts.inFlight + more.inFlight,
  };
}

export class Server {
  readonly #exports: Exports;
  readonly #settings: ServerSettings;
  readonly #native: NativeServer;
  readonly #listeners: NativeListener[] = [];
  readonly #sessions = new Map<ClientSession, Promise<void>>();
  readonly #observer: ServerObserver;
  readonly #onShutdownRequested: () => void;
  #sessionCount = 0;
  #isStopping = false;
  #past = NO_REQUESTS; // of clients that have disconnected

  /** onShutdownRequested: a plugin wants the server to stop. */
  constructor(
    exports: Exports,
    settings: ServerSettings,
    onShutdownRequested: () => void,
    observer: ServerObserver = {},
  ) {
    this.#observer = observer;
    this.#onShutdownRequested = onShutdownRequested;
    this.#exports = exports;
    this.#settings = settings;
    for (const parts of exports.chains) addon().logDebug(`chain: ${parts.join(" > ")}`);
    this.#native = new (addon().NativeServer)(onShutdownRequested, settings.maxInFlightBytes);
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
      this.#listeners.push(listener);
    }
    this.#resume();
  }

  /** Clients that are connected, all there have been, and the requests of all. */
  get counts(): RequestCounts & { readonly open: number; readonly total: number } {
    const requests = [...this.#sessions.keys()].reduce(sum, this.#past);
    return { ...requests, open: this.#sessions.size, total: this.#sessionCount };
  }

  /** Serves one client on descriptors it takes over. Resolves when the client has disconnected. */
  async serve(inFd: number, outFd: number): Promise<void> {
    const number = ++this.#sessionCount;
    const session = this.#newSession({
      inFd,
      outFd,
      number,
      readonly: this.#settings.readonly,
      threads: this.#settings.threads,
    });
    const running = session
      .run()
      .catch((error: unknown) => this.#failed("client connection failed", error))
      .finally(() => {
        this.#sessions.delete(session);
        this.#past = sum(this.#past, session);
        this.#observer.onDisconnection?.(number);
        this.#resume();
      });
    this.#sessions.set(session, running);
    this.#observer.onConnection?.(number);
    if (this.#isFull) this.#pause();
    await running;
  }

  /**
   * No new clients; requests that have arrived are answered; everything closes. Resolves with
   * true when that is done, and with false if plugin calls do not return or requests have never
   * got a reply: then an export is still in use and must not end.
   */
  async stop(graceMs = this.#settings.graceMs): Promise<boolean> {
    try {
      return await this.#stop(graceMs);
    } finally {
      this.#native.release();
    }
  }

  async #stop(graceMs: number): Promise<boolean> {
    const drained = this.#drain(graceMs).then(() => this.#exports.drained());
    const drainMs = graceMs + STOP_MARGIN_MS;
    const timely = await Promise.race([drained.then((unused) => ({ unused })), after(drainMs)]);
    if (timely) return timely.unused;
    addon().logError(
      `${this.#sessions.size} connections did not end within ${drainMs / 1000} s: closing them`,
    );
    for (const session of this.#sessions.keys()) session.abort();
    if (await Promise.race([drained, after(ABORT_GRACE_MS)])) return true;
    addon().logError(`${this.#sessions.size} plugin calls did not return: giving up`);
    return false;
  }

  /** Whether new clients are refused. */
  get isStopping(): boolean {
    return this.#isStopping;
  }

  #newSession(stream: ClientStream): ClientSession {
    const exports = this.#exports;
    return exports instanceof ExportTable
      ? new Session(this.#native, exports, stream, this.#settings)
      : exports.newClientSession(stream, this.#settings);
  }

  async #drain(graceMs: number): Promise<void> {
    this.#isStopping = true;
    for (const listener of this.#listeners.splice(0)) listener.close();
    // Connections must have their grace before the announcement has them count it.
    for (const session of this.#sessions.keys()) session.stop(graceMs);
    this.#native.announceStop();
    await Promise.all(this.#sessions.values());
  }

  #accept(fd: number): void {
    void this.serve(fd, fd);
  }

  #acceptFailed(errno: number): void {
    const name =
      Object.entries(osConstants.errno).find(([, value]) => value === errno)?.[0] ?? `${errno}`;
    this.#failed("cannot accept a client, retrying", new Error(name));
    this.#pause();
    setTimeout(() => this.#resume(), ACCEPT_RETRY_MS).unref();
  }

  #failed(what: string, error: unknown): void {
    addon().logError(`${what}: ${messageOf(error)}`);
    this.#observer.onError?.(new AsyncnbdError("SYSTEM", `${what}: ${messageOf(error)}`));
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
