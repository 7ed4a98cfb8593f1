// Requests of one client, over its connections: how many are in flight, which wait, and what becomes
// of them when a connection is lost.

import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_CACHE,
  NBD_CMD_FLAG_FUA,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
} from "../handshake/constants.js";
import type { Connection, Owner } from "./connection.js";
import { ConnectionError, NbdError } from "./errors.js";
import type { Request } from "./request.js";
import { ProtocolError } from "./rules.js";

/** What to do when a connection is lost. */
export interface ReconnectPolicy {
  /** How often to try, for each loss. By default 10. */
  readonly attempts?: number;
  /** Before the first attempt; each further one waits twice as long. By default 100 ms. */
  readonly delayMs?: number;
  /** No wait is longer. By default 10 s. */
  readonly maxDelayMs?: number;
  /**
   * What is sent again if its reply was lost. "reads", the default: reads, block status and cache,
   * which change nothing; others reject, since the server may have carried them out, and may yet do
   * so after what is sent next. "all": writes, zeroes, trims and flushes too, for servers that drop
   * a connection's requests with it and keep unflushed writes.
   */
  readonly retry?: "reads" | "all";
  /** For a log: a connection was lost. */
  readonly onLost?: (error: Error) => void;
}

export interface Limits {
  readonly maxInFlight: number;
  readonly maxInFlightBytes: number;
}

const DEFAULT_ATTEMPTS = 10;
const DEFAULT_DELAY_MS = 100;
const DEFAULT_MAX_DELAY_MS = 10_000;

const CHANGES_NOTHING: ReadonlySet<number> = new Set([
  NBD_CMD_READ,
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_CACHE,
]);

export class Dispatcher implements Owner {
  readonly #limits: Limits;
  readonly #policy: ReconnectPolicy | undefined;
  readonly #open: (owner: Owner, signal: AbortSignal) => Promise<Connection>;
  #connections: Connection[] = [];
  /** First in, first out; the head is at `#waitingFrom`. */
  #waiting: Request[] = [];
  #waitingFrom = 0;
  #inFlight = 0;
  #inFlightBytes = 0;
  /** Why nothing is taken any more. */
  #error: Error | undefined;
  #isClosing = false;
  #whenIdle: (() => void) | undefined;
  readonly #reconnecting = new AbortController();

  /** Writes were answered since the last flush began, or such writes were lost with a connection. */
  #isDirty = false;
  #hasLostWrites = false;

  constructor(
    limits: Limits,
    policy: ReconnectPolicy | undefined,
    open: (owner: Owner, signal: AbortSignal) => Promise<Connection>,
  ) {
    this.#limits = limits;
    this.#policy = policy;
    this.#open = open;
  }

  get connections(): number {
    return this.#connections.length;
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  /** Requests that wait for room, or for a connection. */
  get waiting(): number {
    return this.#waiting.length - this.#waitingFrom;
  }

  add(connection: Connection): void {
    this.#connections.push(connection);
    this.#drain();
  }

  submit(request: Request): void {
    if (this.#error !== undefined) {
      request.settle(this.#error, request);
      return;
    }
    if (this.#isClosing) {
      request.settle(closed(), request);
      return;
    }
    if (this.waiting === 0 && this.#hasRoom(request)) this.#issue(request);
    else this.#waiting.push(request);
  }

  #hasRoom(request: Request): boolean {
    if (this.#connections.length === 0) return false;
    if (this.#inFlight === 0) return true; // even if it is larger than allowed
    return (
      this.#inFlight < this.#limits.maxInFlight &&
      this.#inFlightBytes + request.payloadBytes <= this.#limits.maxInFlightBytes
    );
  }

  #issue(request: Request): void {
    if (request.command === NBD_CMD_FLUSH) {
      if (this.#hasLostWrites) {
        this.#hasLostWrites = false;
        request.settle(lostWrites(), request);
        return;
      }
      this.#isDirty = false;
    }
    this.#inFlight++;
    this.#inFlightBytes += request.payloadBytes;
    this.#leastBusy().send(request);
  }

  #leastBusy(): Connection {
    const [first, ...others] = this.#connections as [Connection, ...Connection[]];
    let best = first;
    for (const one of others) if (one.inFlight < best.inFlight) best = one;
    return best;
  }

  #drain(): void {
    for (;;) {
      const next = this.#waiting[this.#waitingFrom];
      if (next === undefined || !(next.isAbandoned || this.#hasRoom(next))) break;
      this.#waitingFrom++;
      if (!next.isAbandoned) this.#issue(next);
    }
    if (this.#waitingFrom === this.#waiting.length) {
      this.#waiting = [];
      this.#waitingFrom = 0;
      if (this.#inFlight === 0) this.#whenIdle?.();
    } else if (this.#waitingFrom > 1024) {
      this.#waiting = this.#waiting.slice(this.#waitingFrom);
      this.#waitingFrom = 0;
    }
  }

  #release(request: Request): void {
    this.#inFlight--;
    this.#inFlightBytes -= request.payloadBytes;
  }

  answered(request: Request): void {
    this.#release(request);
    const { command, error } = request;
    const isChange = !CHANGES_NOTHING.has(command) && command !== NBD_CMD_FLUSH;
    const isOnDisk = (request.flags & NBD_CMD_FLAG_FUA) !== 0;
    if ((isChange && !isOnDisk) || (command === NBD_CMD_FLUSH && error !== undefined))
      this.#isDirty = true;
    if (!request.isAbandoned) request.settle(error, request);
    this.#drain();
  }

  lost(connection: Connection, unanswered: readonly Request[], cause: Error): void {
    this.#connections = this.#connections.filter((one) => one !== connection);
    for (const request of unanswered) this.#release(request);
    const isProtocol = cause instanceof ProtocolError;
    const error = isProtocol || cause instanceof ConnectionError ? cause : lostBecause(cause);
    const policy = this.#error === undefined && !isProtocol ? this.#policy : undefined;
    if (policy === undefined || (this.#isClosing && unanswered.length === 0)) {
      settleAll(unanswered, this.#error ?? error);
      if (!this.#isClosing || unanswered.length > 0) this.destroy(this.#error ?? error);
      this.#whenIdle?.();
      return;
    }
    policy.onLost?.(error);
    // A flush without an answer has flushed nothing that anybody could rely on.
    const isDirty = this.#isDirty || unanswered.some(({ command }) => command === NBD_CMD_FLUSH);
    if (isDirty && policy.retry !== "all") this.#hasLostWrites = true;
    this.#retry(unanswered, policy, error);
    void this.#reconnect(policy, error);
  }

  /** What may be sent again goes in front of what waits. */
  #retry(unanswered: readonly Request[], { retry }: ReconnectPolicy, error: Error): void {
    const isSafe = (one: Request): boolean => retry === "all" || CHANGES_NOTHING.has(one.command);
    const again = unanswered.filter((one) => isSafe(one) && !one.isAbandoned);
    for (const request of again) request.forgetReply();
    again.sort((a, b) => a.sequence - b.sequence);
    this.#waiting = [...again, ...this.#waiting.slice(this.#waitingFrom)];
    this.#waitingFrom = 0;
    settleAll(
      unanswered.filter((one) => !isSafe(one)),
      error,
    );
  }

  async #reconnect(policy: ReconnectPolicy, first: Error): Promise<void> {
    const { attempts = DEFAULT_ATTEMPTS, maxDelayMs = DEFAULT_MAX_DELAY_MS } = policy;
    const { signal } = this.#reconnecting;
    let delayMs = policy.delayMs ?? DEFAULT_DELAY_MS;
    let last: unknown = first;
    for (let attempt = 1; attempt <= attempts && !signal.aborted; attempt++) {
      await pause(Math.min(delayMs, maxDelayMs), signal);
      delayMs *= 2;
      try {
        const connection = await this.#open(this, signal);
        if (signal.aborted) {
          connection.destroy(closed());
          return;
        }
        this.add(connection);
        return;
      } catch (error) {
        last = error;
        if (error instanceof ProtocolError || error instanceof ChangedError) break;
      }
    }
    this.destroy(last as Error);
  }

  /** Settled at once; what is in flight stays until its reply. */
  abandon(request: Request, reason: Error): void {
    request.isAbandoned = true;
    request.settle(reason, request);
  }

  /** Waits for what is in flight or waits, then leaves. */
  async close(): Promise<void> {
    this.#isClosing = true;
    if (this.#error !== undefined) return;
    if (this.#inFlight > 0 || this.waiting > 0)
      await new Promise<void>((resolve) => {
        this.#whenIdle = resolve;
      });
    this.#reconnecting.abort();
    await Promise.all(this.#connections.map((connection) => connection.disconnect()));
    this.#error ??= closed();
  }

  /** At once: everything rejects with the error. */
  destroy(error: Error): void {
    if (this.#error !== undefined) return;
    this.#error = error;
    this.#reconnecting.abort();
    const waiting = this.#waiting.slice(this.#waitingFrom);
    this.#waiting = [];
    this.#waitingFrom = 0;
    settleAll(waiting, error);
    for (const connection of this.#connections) connection.destroy(error);
    this.#whenIdle?.();
  }
}

/** The server that came back is another one. */
export class ChangedError extends ConnectionError {
  constructor(what: string) {
    super("ECHANGED", `the server came back with another disk: ${what}`);
  }
}

export const closed = (): ConnectionError => new ConnectionError("ECLOSED", "the client is closed");

const lostBecause = (cause: Error): ConnectionError => {
  const { code = "ECONNRESET" } = cause as { code?: string };
  return new ConnectionError(code, `the connection was lost: ${cause.message}`, { cause });
};

const lostWrites = (): NbdError =>
  new NbdError(
    "EIO",
    "flush",
    "a connection was lost with writes that were not flushed: the server may have lost them",
  );

function settleAll(requests: readonly Request[], error: Error): void {
  for (const request of requests) if (!request.isAbandoned) request.settle(error, request);
}

/** Ends early when the signal fires. */
const pause = (delayMs: number, signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, delayMs);
    signal.addEventListener(
      "abort",
      () => {
        clearTimeout(timer);
        resolve();
      },
      { once: true },
    );
  });
