// Requests of one client, over its connections: how many are in flight, which wait, and what becomes
// of them when a connection is lost.

import { setTimeout as sleep } from "node:timers/promises";
import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_CACHE,
  NBD_CMD_FLAG_FUA,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
} from "../protocol.js";
import type { Connection, Owner } from "./connection.js";
import { ConnectionError, NbdError } from "./errors.js";
import type { Request } from "./request.js";
import { ProtocolError } from "./rules.js";

/** What to do when a connection is lost. */
export interface ReconnectPolicy {
  /** How often to try, for each loss, and how often a request is sent again. By default 10. */
  readonly attempts?: number;
  /**
   * Before the first attempt; each further one waits twice as long, as does one after a connection
   * that was lost before it answered anything. By default 100 ms.
   */
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
  /** Losses that a new connection is being sought for. */
  #sought = 0;
  /** New connections since the last answer. */
  #fruitless = 0;

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

  /** Why nothing is taken any more, if so. */
  get error(): Error | undefined {
    return this.#error;
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  /** Requests that wait for room, or for a connection. */
  get waiting(): number {
    return this.#waiting.length - this.#waitingFrom;
  }

  /** It may have been lost since it was opened, or this client may be over. */
  add(connection: Connection): void {
    if (this.#error !== undefined) {
      connection.destroy(this.#error);
      return;
    }
    if (connection.endedBy !== undefined) {
      this.#lose([], connection.endedBy);
      return;
    }
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
    this.#leastBusy().send(request);
    this.#inFlight++;
    this.#inFlightBytes += request.payloadBytes;
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
      this.#tellIfIdle();
    } else if (this.#waitingFrom > 1024) {
      this.#waiting = this.#waiting.slice(this.#waitingFrom);
      this.#waitingFrom = 0;
    }
  }

  get #isIdle(): boolean {
    return this.#inFlight === 0 && this.waiting === 0;
  }

  #tellIfIdle(): void {
    if (this.#isIdle) this.#whenIdle?.();
  }

  #release(request: Request): void {
    this.#inFlight--;
    this.#inFlightBytes -= request.payloadBytes;
  }

  answered(request: Request): void {
    this.#release(request);
    this.#fruitless = 0;
    const { command, error } = request;
    const isChange = !CHANGES_NOTHING.has(command) && command !== NBD_CMD_FLUSH;
    const isOnDisk = (request.flags & NBD_CMD_FLAG_FUA) !== 0;
    if ((isChange && !isOnDisk) || (command === NBD_CMD_FLUSH && error !== undefined))
      this.#isDirty = true;
    if (!request.isAbandoned) request.settle(error, request);
    this.#drain();
  }

  lost(connection: Connection, unanswered: readonly Request[], cause: Error): void {
    if (!this.#connections.includes(connection)) return; // add() will see to it, if it is called
    this.#connections = this.#connections.filter((one) => one !== connection);
    this.#lose(unanswered, cause);
  }

  #lose(unanswered: readonly Request[], cause: Error): void {
    for (const request of unanswered) this.#release(request);
    if (this.#error !== undefined) {
      settleAll(unanswered, this.#error);
      return;
    }
    const isNeeded = !this.#isIdle && this.#connections.length === 0;
    if (this.#isClosing && unanswered.length === 0 && !isNeeded) {
      this.#tellIfIdle();
      return;
    }
    const isProtocol = cause instanceof ProtocolError;
    const error = isProtocol || cause instanceof ConnectionError ? cause : lostBecause(cause);
    if (isProtocol || this.#policy === undefined) {
      settleAll(unanswered, error);
      this.destroy(error);
    } else this.#recover(unanswered, this.#policy, error);
  }

  #recover(unanswered: readonly Request[], policy: ReconnectPolicy, error: Error): void {
    // A flush without an answer has flushed nothing that anybody could rely on.
    const isDirty = this.#isDirty || unanswered.some(({ command }) => command === NBD_CMD_FLUSH);
    if (isDirty && policy.retry !== "all") this.#hasLostWrites = true;
    this.#retry(unanswered, policy, error);
    void this.#reconnect(policy, error);
    // If it throws, that keeps nothing here from being done.
    process.nextTick(() => policy.onLost?.(error));
  }

  /** What may be sent again goes in front of what waits, and to the connections that are left. */
  #retry(unanswered: readonly Request[], policy: ReconnectPolicy, error: Error): void {
    const { retry, attempts = DEFAULT_ATTEMPTS } = policy;
    const isRepeatable = (one: Request): boolean =>
      (retry === "all" || CHANGES_NOTHING.has(one.command)) && one.repetitions < attempts;
    const again = unanswered.filter((one) => isRepeatable(one) && !one.isAbandoned);
    again.sort((a, b) => a.sequence - b.sequence);
    this.#waiting = [...again, ...this.#waiting.slice(this.#waitingFrom)];
    this.#waitingFrom = 0;
    settleAll(
      unanswered.filter((one) => !isRepeatable(one)),
      error,
    );
    for (const request of again) request.repeat();
    this.#drain();
  }

  async #reconnect(policy: ReconnectPolicy, first: Error): Promise<void> {
    this.#sought++;
    const found = await this.#seek(policy, first);
    this.#sought--;
    if (this.#reconnecting.signal.aborted) {
      if (!(found instanceof Error)) found.destroy(closed());
    } else if (!(found instanceof Error)) {
      this.#fruitless++;
      this.add(found);
    } else if (this.#connections.length === 0 && this.#sought === 0) this.destroy(found);
  }

  /** A new connection, or why there is none. */
  async #seek(policy: ReconnectPolicy, first: Error): Promise<Connection | Error> {
    const { attempts = DEFAULT_ATTEMPTS, maxDelayMs = DEFAULT_MAX_DELAY_MS } = policy;
    const { signal } = this.#reconnecting;
    let delayMs = (policy.delayMs ?? DEFAULT_DELAY_MS) * 2 ** Math.min(this.#fruitless, 32);
    let last = first;
    for (let attempt = 1; attempt <= attempts && !signal.aborted; attempt++) {
      await sleep(Math.min(delayMs, maxDelayMs), undefined, { signal }).catch(() => {});
      if (signal.aborted) break;
      delayMs *= 2;
      try {
        return await this.#open(this, signal);
      } catch (error) {
        last = error as Error;
        if (error instanceof ProtocolError || error instanceof ChangedError) break;
      }
    }
    return last;
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
    super("ECHANGED", `the server has another disk after the reconnect: ${what}`);
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
