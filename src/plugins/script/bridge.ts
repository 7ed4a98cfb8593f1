// The JavaScript half of the bridge between connections and plugins: takes requests in batches from
// the native half, calls the plugin, and returns the answers in batches.

import { addon } from "../../addon/addon.js";
import { type Log, processLog } from "../../addon/log.js";
import type { NativeScriptBridge } from "../../addon/types.js";
import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_CACHE,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
} from "../../protocol.js";
import { whenSettled } from "./adopt.js";
import {
  CLIENT_GONE,
  CLOSE,
  COMMAND,
  COMPLETION_WORDS,
  CONNECTION,
  FLAGS,
  FREES_SLOT,
  KEEPS_SLOT,
  LENGTH_BYTES,
  MAY_HAVE_HOLES,
  NO_SLOT,
  OFFSET,
  OPERATION,
  SLOT,
  SUBMISSION_DOUBLES,
  SUBMISSION_WORDS,
} from "./batch-layout.js";
import { describeThrown, failure, readFailure } from "./errno.js";
import { type Pending, type ScriptExport, StatusAnswer } from "./export.js";
import { SlotViews } from "./slot-views.js";

/** So long requests may follow each other before timers and other events have their turn. */
const MAX_BUSY_MS = 1;
/** Batches become smaller where one takes longer, with all that it does at once. */
const MAX_BATCH_MS = 4;
/** The clock is read after so many at the most. */
const MAX_UNTIMED = 32;
/** Memory that has not been needed for so long goes back to the system. */
const TRIM_MS = 1000;
/** A plugin that fails one request fails thousands. */
const MAX_FAILURES_LOGGED = 10;

/** A request of which more must be known at its answer. */
interface Tracked {
  readonly operation: number;
  readonly opened: ScriptExport;
  readonly command: number;
  readonly slot: number;
  timer: NodeJS.Timeout | undefined;
  copy: Buffer | undefined;
  isAnswered: boolean;
}

export interface BridgeOptions {
  /** Gives each request memory of its own, which is taken away from the plugin at the reply. */
  readonly checkBuffers?: boolean;
  /** By default the process's. */
  readonly log?: Log;
}

/** One per JavaScript thread: native code finds it by the connection's number. */
export class ScriptBridge {
  readonly log: Log;
  readonly native: NativeScriptBridge;
  readonly #words: Uint32Array;
  readonly #doubles: Float64Array;
  readonly #completions: Uint32Array;
  readonly #maxCompletions: number;
  readonly #checkBuffers: boolean;
  readonly #maxSubmissions: number;
  #completionCount = 0;
  #turnIsDue = false;
  #busySince = 0;
  // Of what the last exchange has brought, what is still to be called.
  #next = 0;
  #fetched = 0;
  #first = 0; // of those that the turn before has called
  #most: number; // to be called in a turn
  #begun = 0;
  #follows = false; // the turn before in the same macrotask
  #untimed = MAX_UNTIMED;
  #calls = 0;
  #trimTimer: NodeJS.Timeout | undefined;

  readonly #exports: (ScriptExport | undefined)[] = [];
  readonly #freeConnections: number[] = [];
  #failuresLogged = 0;

  readonly #slots: SlotViews;

  // By operation.
  readonly #resolved: ((value: unknown) => void)[] = [];
  readonly #rejected: ((error: unknown) => void)[] = [];

  constructor({ checkBuffers = false, log = processLog }: BridgeOptions = {}) {
    this.log = log;
    this.native = new (addon().NativeScriptBridge)(() => this.#turn());
    this.#slots = new SlotViews(this.native);
    const [submissions, completions] = this.native.batch();
    this.#words = new Uint32Array(submissions);
    this.#doubles = new Float64Array(submissions);
    this.#completions = new Uint32Array(completions);
    this.#maxCompletions = this.#completions.length / COMPLETION_WORDS;
    this.#maxSubmissions = this.#words.length / SUBMISSION_WORDS;
    this.#most = this.#maxSubmissions;
    this.#checkBuffers = checkBuffers;
  }

  /** From now on native code may send requests to the export, until it has closed it. */
  register(opened: ScriptExport): number {
    const connection = this.#freeConnections.pop() ?? this.#exports.length;
    this.#exports[connection] = opened;
    return connection;
  }

  /** Of an export that native code will not close. */
  unregister(connection: number): void {
    this.#exports[connection] = undefined;
    this.#freeConnections.push(connection);
  }

  // ---- turns ---------------------------------------------------------------------------------

  #turn(): void {
    this.#turnIsDue = false;
    const now = performance.now();
    if (this.#busySince === 0) this.#busySince = now;
    if (this.#follows) this.#noteCosts(now);
    this.#follows = false;
    const completions = this.#completionCount;
    this.#completionCount = 0;
    if (this.#next < this.#fetched || this.#isLate(now)) {
      this.native.exchange(completions, 0);
    } else {
      this.#fetched = this.native.exchange(completions, this.#most);
      this.#next = 0;
      if (this.#fetched > 0) this.#trimLater();
    }
    this.#first = this.#next;
    if (!this.#isLate(now)) this.#dispatchWhileTimeIsLeft(now);
    if (this.#fetched > 0 || this.#completionCount > 0) this.#follows = this.#scheduleTurn();
    else this.#busySince = 0;
  }

  #isLate(now: number): boolean {
    return now - this.#busySince >= MAX_BUSY_MS;
  }

  /** Since the turn before, all that has run is what its requests had to do at once. */
  #noteCosts(now: number): void {
    const begun = this.#next - this.#first;
    if (begun === 0) return;
    const spentMs = now - this.#begun;
    if (spentMs < MAX_BATCH_MS) this.#most = Math.min(2 * this.#most, this.#maxSubmissions);
    else this.#most = Math.max(1, Math.floor((begun * MAX_BATCH_MS) / spentMs));
  }

  /** A request may take any time: the clock is read as often as they are long. */
  #dispatchWhileTimeIsLeft(begun: number): void {
    this.#begun = begun;
    let last = begun;
    const end = Math.min(this.#fetched, this.#next + this.#most);
    for (let untimed = this.#untimed; this.#next < end; ) {
      this.#dispatch(this.#next++);
      this.#calls++;
      if (--untimed > 0) continue;
      const now = performance.now();
      const isQuick = now - last < MAX_BUSY_MS / 8;
      this.#untimed = isQuick ? Math.min(2 * this.#untimed, MAX_UNTIMED) : 1;
      if (this.#isLate(now)) return;
      untimed = this.#untimed;
      last = now;
    }
  }

  /**
   * After the microtasks that are queued now, so that answers gather, and what they cost is seen;
   * true if that is all. Where time is up and nothing new was begun, other events come first.
   */
  #scheduleTurn(): boolean {
    if (this.#turnIsDue) return false;
    this.#turnIsDue = true;
    const now = performance.now();
    if (this.#busySince === 0) this.#busySince = now;
    const yields = this.#first === this.#next && this.#isLate(now);
    if (yields) {
      this.#busySince = 0;
      setImmediate(() => this.#turn());
    } else {
      queueMicrotask(() => this.#turn());
    }
    return !yields;
  }

  #complete(operation: number, outcome: number): void {
    if (this.#completionCount === this.#maxCompletions) {
      this.native.exchange(this.#completionCount, 0);
      this.#completionCount = 0;
    }
    const at = this.#completionCount++ * COMPLETION_WORDS;
    this.#completions[at] = operation;
    this.#completions[at + 1] = outcome;
    this.#scheduleTurn();
  }

  // ---- requests ------------------------------------------------------------------------------

  #dispatch(index: number): void {
    const at = index * SUBMISSION_WORDS;
    const operation = this.#words[at + OPERATION] as number;
    const opened = this.#exports[this.#words[at + CONNECTION] as number] as ScriptExport;
    const tracked =
      this.#checkBuffers || opened.requestTimeoutMs !== undefined
        ? this.#track(opened, at)
        : undefined;
    try {
      const pending = this.#call(opened, index, tracked);
      if (pending === undefined) this.#succeed(operation, undefined, tracked);
      else if (tracked === undefined)
        void whenSettled(pending, this.#onResolved(operation), this.#onRejected(operation));
      else
        void whenSettled(
          pending,
          (value) => this.#succeed(operation, value, tracked),
          (error) => this.#fail(operation, error, tracked),
        );
    } catch (error) {
      this.#fail(operation, error, tracked);
    }
  }

  #call(opened: ScriptExport, index: number, tracked: Tracked | undefined): Pending {
    const words = this.#words;
    const at = index * SUBMISSION_WORDS;
    const offset = this.#doubles[index * SUBMISSION_DOUBLES + OFFSET] as number;
    const length = this.#doubles[index * SUBMISSION_DOUBLES + LENGTH_BYTES] as number;
    const slot = words[at + SLOT] as number;
    const flags = words[at + FLAGS] as number;
    const command = words[at + COMMAND] as number;
    const buffer = (): Buffer =>
      slot === NO_SLOT ? opened.inPlace(length, offset) : this.#buffer(slot, length, tracked);
    switch (command) {
      case NBD_CMD_READ:
        if ((flags & MAY_HAVE_HOLES) !== 0) {
          const operation = words[at + OPERATION] as number;
          return opened.readSparse(buffer(), offset, (extents) =>
            this.native.sparse(operation, extents),
          );
        }
        return opened.read(buffer(), offset);
      case NBD_CMD_WRITE:
        return opened.write(buffer(), offset, flags);
      case NBD_CMD_FLUSH:
        return opened.flush();
      case NBD_CMD_TRIM:
        return opened.trim(length, offset, flags);
      case NBD_CMD_CACHE:
        return opened.cache(length, offset);
      case NBD_CMD_WRITE_ZEROES:
        return opened.zero(length, offset, flags);
      case NBD_CMD_BLOCK_STATUS:
        return opened.blockStatus(
          this.native.question(words[at + OPERATION] as number),
          length,
          offset,
          flags,
        );
      case CLIENT_GONE:
        opened.onClientGone();
        return undefined;
      case CLOSE:
        this.unregister(words[at + CONNECTION] as number);
        return opened.close();
      default:
        throw failure("EINVAL", `unknown command ${command}`);
    }
  }

  #buffer(slot: number, length: number, tracked: Tracked | undefined): Buffer {
    const view = this.#slots.view(slot, length);
    if (!this.#checkBuffers || tracked === undefined) return view;
    tracked.copy = Buffer.from(new ArrayBuffer(length));
    if (tracked.command === NBD_CMD_WRITE) view.copy(tracked.copy);
    return tracked.copy;
  }

  #trimLater(): void {
    this.#trimTimer ??= setInterval(() => this.#trim(), TRIM_MS).unref();
  }

  /** What a burst of requests has left behind. */
  #trim(): void {
    const hasIdled = this.#calls === 0;
    this.#calls = 0;
    if (hasIdled) {
      this.#slots.forgetViews();
      this.#resolved.length = 0;
      this.#rejected.length = 0;
    }
    if (this.native.trim() || !hasIdled) return;
    clearInterval(this.#trimTimer);
    this.#trimTimer = undefined;
  }

  // ---- answers -------------------------------------------------------------------------------

  #onResolved(operation: number): (value: unknown) => void {
    let callback = this.#resolved[operation];
    if (callback === undefined) {
      callback = (value) => this.#succeed(operation, value);
      this.#resolved[operation] = callback;
    }
    return callback;
  }

  #onRejected(operation: number): (error: unknown) => void {
    let callback = this.#rejected[operation];
    if (callback === undefined) {
      callback = (error) => this.#fail(operation, error);
      this.#rejected[operation] = callback;
    }
    return callback;
  }

  #succeed(operation: number, value: unknown, tracked?: Tracked): void {
    if (tracked !== undefined && !this.#settle(tracked)) return;
    if (value instanceof StatusAnswer && !this.native.answer(operation, value.numbers))
      this.#complete(operation, readFailure(undefined).errno);
    else this.#complete(operation, 0);
  }

  /** Throws nothing, whatever was thrown. */
  #fail(operation: number, error: unknown, tracked?: Tracked): void {
    if (tracked !== undefined && !this.#settle(tracked)) return;
    const { errno, text, offset, shouldBeLogged } = readFailure(error);
    if (shouldBeLogged) this.#logFailure(error);
    if (text !== "" || offset !== undefined) this.native.explain(operation, text, offset);
    this.#complete(operation, errno);
  }

  #logFailure(error: unknown): void {
    if (this.#failuresLogged++ >= MAX_FAILURES_LOGGED) return;
    const last = this.#failuresLogged === MAX_FAILURES_LOGGED ? "\n(more are not logged)" : "";
    this.log.error(`${describeThrown(error)}${last}`);
  }

  // ---- what is only done on demand: timeouts, and the check of buffers ------------------------

  #track(opened: ScriptExport, at: number): Tracked {
    const tracked: Tracked = {
      operation: this.#words[at + OPERATION] as number,
      opened,
      command: this.#words[at + COMMAND] as number,
      slot: this.#words[at + SLOT] as number,
      timer: undefined,
      copy: undefined,
      isAnswered: false,
    };
    const timeoutMs = opened.requestTimeoutMs;
    if (timeoutMs !== undefined && tracked.command < CLIENT_GONE)
      tracked.timer = setTimeout(() => this.#timeOut(tracked), timeoutMs);
    return tracked;
  }

  /** The client gets its answer; the plugin keeps the memory until it has settled the request. */
  #timeOut(tracked: Tracked): void {
    tracked.isAnswered = true;
    const { name, requestTimeoutMs } = tracked.opened;
    this.#logFailure(failure("ETIMEDOUT", `${name} did not answer within ${requestTimeoutMs} ms`));
    this.native.explain(tracked.operation, `no answer within ${requestTimeoutMs} ms`, undefined);
    this.#complete(tracked.operation, readFailure(undefined).errno | KEEPS_SLOT);
  }

  /** Before the answer; false if there has been one. */
  #settle(tracked: Tracked): boolean {
    if (tracked.isAnswered) {
      if (tracked.slot !== NO_SLOT) this.#complete(tracked.slot, FREES_SLOT);
      return false;
    }
    tracked.isAnswered = true;
    clearTimeout(tracked.timer);
    const { copy } = tracked;
    if (copy !== undefined) {
      if (tracked.command === NBD_CMD_READ) copy.copy(this.#slots.view(tracked.slot, copy.length));
      if (copy.length > 0) structuredClone(copy.buffer, { transfer: [copy.buffer as ArrayBuffer] });
    }
    return true;
  }
}
