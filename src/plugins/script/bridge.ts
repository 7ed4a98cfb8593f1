// The JavaScript half of the way between connections and plugins: takes requests in batches from
// the native half, calls the plugin, and gives the answers back in batches.

import { performance } from "node:perf_hooks";
import * as threads from "node:worker_threads";
import { addon } from "../../addon/load.js";
import type { NativeScriptBridge } from "../../addon/types.js";
import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_CACHE,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
} from "./commands.js";
import { describeThrown, errnoOf, failure, isLogged } from "./errno.js";
import type { Pending, ScriptExport } from "./export.js";
import { STATUS_BYTES } from "./statuses.js";

// What happens to connections (SCRIPT_* of script_bridge.hpp).
const CLIENT_GONE = 0x8000;
const CLOSE = 0x8001;

// The layout of script_bridge.hpp's Submission, in 32-bit words and in doubles.
const SUBMISSION_WORDS = 10;
const SUBMISSION_DOUBLES = 5;
const [OPERATION, CONNECTION, SLOT, COMMAND, FLAGS] = [4, 5, 6, 7, 8];
const MAY_HAVE_HOLES = 1 << 16;
const COMPLETION_WORDS = 2;
const KEEPS_SLOT = 1 << 16;
const FREES_SLOT = 2 << 16;
const NO_SLOT = 0xffffffff;

/** So long batches may follow each other before timers and other events have their turn. */
const MAX_BUSY_MS = 1;
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

/**
 * It belongs to many requests: no plugin may transfer it to another thread. Newer Nodes see to that
 * themselves, and abort at their end if it is done twice.
 */
function keepHere(buffer: ArrayBuffer): void {
  const { isMarkedAsUntransferable } = threads as { isMarkedAsUntransferable?(o: object): boolean };
  if (!isMarkedAsUntransferable?.(buffer)) threads.markAsUntransferable(buffer);
}

export interface BridgeOptions {
  /** Gives each request memory of its own, which is taken away from the plugin at the reply. */
  readonly checkBuffers?: boolean;
}

/** One per JavaScript thread: native code finds it by the connection's number. */
export class ScriptBridge {
  readonly native: NativeScriptBridge;
  readonly #words: Uint32Array;
  readonly #doubles: Float64Array;
  readonly #completions: Uint32Array;
  readonly #maxCompletions: number;
  readonly #checkBuffers: boolean;
  #completionCount = 0;
  #turnIsDue = false;
  #busySince = 0;

  readonly #exports: (ScriptExport | undefined)[] = [];
  readonly #freeConnections: number[] = [];
  #failuresLogged = 0;

  // By slot.
  readonly #memory: { buffer: ArrayBuffer; offset: number }[] = [];
  readonly #views: (Buffer | undefined)[] = [];

  // By operation.
  readonly #resolved: ((value: unknown) => void)[] = [];
  readonly #rejected: ((error: unknown) => void)[] = [];

  constructor({ checkBuffers = false }: BridgeOptions = {}) {
    this.native = new (addon().NativeScriptBridge)(() => this.#turn());
    const [submissions, completions] = this.native.batch();
    this.#words = new Uint32Array(submissions);
    this.#doubles = new Float64Array(submissions);
    this.#completions = new Uint32Array(completions);
    this.#maxCompletions = this.#completions.length / COMPLETION_WORDS;
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
    const completions = this.#completionCount;
    this.#completionCount = 0;
    const count = this.native.exchange(completions, true, 0);
    for (let i = 0; i < count; i++) this.#dispatch(i);
    if (count > 0 || this.#completionCount > 0) this.#scheduleTurn();
    else this.#busySince = 0;
  }

  /** After the microtasks that are queued now, so that answers gather. */
  #scheduleTurn(): void {
    if (this.#turnIsDue) return;
    this.#turnIsDue = true;
    const now = performance.now();
    if (this.#busySince === 0) this.#busySince = now;
    if (now - this.#busySince < MAX_BUSY_MS) {
      queueMicrotask(() => this.#turn());
    } else {
      this.#busySince = 0;
      setImmediate(() => this.#turn());
    }
  }

  #complete(operation: number, outcome: number): void {
    if (this.#completionCount === this.#maxCompletions) {
      this.native.exchange(this.#completionCount, false, 0);
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
      this.#checkBuffers || opened.plugin.requestTimeoutMs !== undefined
        ? this.#track(opened, at)
        : undefined;
    let pending: Pending;
    try {
      pending = this.#call(opened, index, tracked);
    } catch (error) {
      this.#fail(operation, error, tracked);
      return;
    }
    if (pending === undefined || pending === null || typeof pending.then !== "function")
      this.#succeed(operation, tracked);
    else if (tracked === undefined)
      pending.then(this.#onResolved(operation), this.#onRejected(operation));
    else
      pending.then(
        () => this.#succeed(operation, tracked),
        (error) => this.#fail(operation, error, tracked),
      );
  }

  #call(opened: ScriptExport, index: number, tracked: Tracked | undefined): Pending {
    const words = this.#words;
    const at = index * SUBMISSION_WORDS;
    const offset = this.#doubles[index * SUBMISSION_DOUBLES] as number;
    const length = this.#doubles[index * SUBMISSION_DOUBLES + 1] as number;
    const slot = words[at + SLOT] as number;
    const flags = words[at + FLAGS] as number;
    const command = words[at + COMMAND] as number;
    switch (command) {
      case NBD_CMD_READ:
        if ((flags & MAY_HAVE_HOLES) !== 0) {
          const operation = words[at + OPERATION] as number;
          return opened.readSparse(this.#buffer(slot, length, tracked), offset, (extents) =>
            this.native.sparse(operation, extents),
          );
        }
        return opened.read(this.#buffer(slot, length, tracked), offset);
      case NBD_CMD_WRITE:
        return opened.write(this.#buffer(slot, length, tracked), offset, flags);
      case NBD_CMD_FLUSH:
        return opened.flush();
      case NBD_CMD_TRIM:
        return opened.trim(length, offset, flags);
      case NBD_CMD_CACHE:
        return opened.cache(length, offset);
      case NBD_CMD_WRITE_ZEROES:
        return opened.zero(length, offset, flags);
      case NBD_CMD_BLOCK_STATUS:
        return opened.blockStatus(this.#view(slot, STATUS_BYTES), length, offset, flags);
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
    const view = this.#view(slot, length);
    if (!this.#checkBuffers || tracked === undefined) return view;
    tracked.copy = Buffer.from(new ArrayBuffer(length));
    if (tracked.command === NBD_CMD_WRITE) view.copy(tracked.copy);
    return tracked.copy;
  }

  /** The slot's memory. A view is made once, and used again while lengths stay the same. */
  #view(slot: number, length: number): Buffer {
    let view = this.#views[slot];
    if (view === undefined || view.length !== length) {
      if (this.#memory[slot] === undefined) this.#adopt(slot);
      const { buffer, offset } = this.#memory[slot] as { buffer: ArrayBuffer; offset: number };
      view = Buffer.from(buffer, offset, length);
      this.#views[slot] = view;
    }
    return view;
  }

  #adopt(slot: number): void {
    const { buffer, firstSlot, slotBytes, slots } = this.native.slab(slot);
    keepHere(buffer);
    for (let i = 0; i < slots; i++) this.#memory[firstSlot + i] = { buffer, offset: i * slotBytes };
  }

  // ---- answers -------------------------------------------------------------------------------

  #onResolved(operation: number): (value: unknown) => void {
    let callback = this.#resolved[operation];
    if (callback === undefined) {
      callback = () => this.#succeed(operation);
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

  #succeed(operation: number, tracked?: Tracked): void {
    if (tracked === undefined || this.#settle(tracked)) this.#complete(operation, 0);
  }

  #fail(operation: number, error: unknown, tracked?: Tracked): void {
    if (tracked !== undefined && !this.#settle(tracked)) return;
    this.#logFailure(error);
    const text = error instanceof Error ? error.message : "";
    const offset = (error as { offset?: unknown } | null)?.offset;
    if (typeof offset === "number" && Number.isSafeInteger(offset) && offset >= 0)
      this.native.explain(operation, text, offset);
    else if (text !== "") this.native.explain(operation, text);
    this.#complete(operation, errnoOf(error));
  }

  #logFailure(error: unknown): void {
    if ((error as { code?: unknown } | null)?.code === "ENOTSUP") return; // as it should be
    if (isLogged(error)) return;
    if (this.#failuresLogged++ >= MAX_FAILURES_LOGGED) return;
    const last = this.#failuresLogged === MAX_FAILURES_LOGGED ? "\n(more are not logged)" : "";
    addon().logError(`${describeThrown(error)}${last}`);
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
    const timeoutMs = opened.plugin.requestTimeoutMs;
    if (timeoutMs !== undefined && tracked.command < CLIENT_GONE)
      tracked.timer = setTimeout(() => this.#timeOut(tracked), timeoutMs);
    return tracked;
  }

  /** The client gets its answer; the plugin keeps the memory until it has settled the request. */
  #timeOut(tracked: Tracked): void {
    tracked.isAnswered = true;
    const { name, requestTimeoutMs } = tracked.opened.plugin;
    this.#logFailure(failure("ETIMEDOUT", `${name} has not answered in ${requestTimeoutMs} ms`));
    this.native.explain(tracked.operation, `no answer in ${requestTimeoutMs} ms`);
    this.#complete(tracked.operation, errnoOf(undefined) | KEEPS_SLOT);
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
      if (tracked.command === NBD_CMD_READ) copy.copy(this.#view(tracked.slot, copy.length));
      structuredClone(copy.buffer, { transfer: [copy.buffer as ArrayBuffer] });
    }
    return true;
  }
}
