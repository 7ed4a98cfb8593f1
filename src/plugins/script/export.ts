// One export that JavaScript has opened for one connection, as its bridge calls it: each command as
// an operation of the export. Native code sees to what the export has not got.

import {
  NBD_CMD_FLAG_FAST_ZERO,
  NBD_CMD_FLAG_FUA,
  NBD_CMD_FLAG_NO_HOLE,
  NBD_CMD_FLAG_REQ_ONE,
} from "../../protocol.js";
import { adopt, whenSettled } from "./adopt.js";
import { failure } from "./errno.js";
import {
  answerOf,
  type CollectedExtents,
  collectAllocation,
  collectAllocationSync,
  collectStatuses,
  mostExtents,
  type Range,
} from "./extent-collector.js";
import type { ExportFacts, OpenExport } from "./layer.js";
import type { Awaitable, ExtentsInfo, ZeroInfo } from "./requests.js";

/** What a command does; undefined: done already. */
export type Pending = Promise<unknown> | undefined;

/** The answer to a block status, as native code takes it. */
export class StatusAnswer {
  readonly numbers: Float64Array;

  constructor(numbers: Float64Array) {
    this.numbers = numbers;
  }
}

/** The argument that comes with a request, made anew for each: plugins may keep it. */
class Info implements ZeroInfo, ExtentsInfo {
  readonly #owner: ScriptExport;
  readonly fua: boolean;
  readonly mayTrim: boolean;
  readonly fastZero: boolean;
  readonly reqOne: boolean;

  constructor(owner: ScriptExport, flags: number) {
    this.#owner = owner;
    this.fua = (flags & NBD_CMD_FLAG_FUA) !== 0;
    this.mayTrim = (flags & NBD_CMD_FLAG_NO_HOLE) === 0;
    this.fastZero = (flags & NBD_CMD_FLAG_FAST_ZERO) !== 0;
    this.reqOne = (flags & NBD_CMD_FLAG_REQ_ONE) !== 0;
  }

  get signal(): AbortSignal {
    return this.#owner.signal;
  }
}

const ignore = (): void => {};

/** Not before the last one: until then the plugin may still write to the request's memory. */
async function allDone(reads: readonly Pending[]): Promise<void> {
  const settled = await Promise.allSettled(reads);
  const failed = settled.find((one) => one.status === "rejected");
  if (failed !== undefined) throw failed.reason;
}

/** Of the plugin. */
export interface ScriptExportOptions {
  readonly name: string;
  readonly requestTimeoutMs: number | undefined;
  /** A request may be several calls at once. */
  readonly isParallel: boolean;
  /** The memory it lies in, if it does. */
  readonly disk: Buffer | undefined;
}

export class ScriptExport {
  readonly name: string;
  readonly requestTimeoutMs: number | undefined;
  readonly #opened: OpenExport;
  readonly #facts: ExportFacts;
  readonly #isParallel: boolean;
  readonly #disk: Buffer | undefined;
  #abort: AbortController | undefined;
  #clientHasGone = false;

  constructor(
    opened: OpenExport,
    { name, requestTimeoutMs, isParallel, disk }: ScriptExportOptions,
  ) {
    this.#isParallel = isParallel;
    this.#disk = disk;
    this.#opened = opened;
    this.#facts = opened.facts;
    this.name = name;
    this.requestTimeoutMs = requestTimeoutMs;
  }

  /** Made when a plugin first asks for it. */
  get signal(): AbortSignal {
    this.#abort ??= new AbortController();
    if (this.#clientHasGone) this.#abort.abort();
    return this.#abort.signal;
  }

  /** A part of the disk's memory, if it lies in memory. */
  inPlace(length: number, offset: number): Buffer {
    return (this.#disk as Buffer).subarray(offset, offset + length);
  }

  onClientGone(): void {
    this.#clientHasGone = true;
    this.#abort?.abort(failure("ECONNRESET", "the client disconnected"));
  }

  async close(): Promise<void> {
    await this.#opened.close();
  }

  read(buf: Buffer, offset: number): Pending {
    return adopt(this.#opened.read(buf, offset, new Info(this, 0)));
  }

  /**
   * Without what reads as zeroes anyway. `divide` gets the extents, and returns the offsets and
   * lengths of what is to be read, or undefined if that is all.
   */
  readSparse(
    buf: Buffer,
    offset: number,
    divide: (extents: Float64Array) => Float64Array | undefined,
  ): Pending {
    const { extents, late } = this.#extentsNow(buf.length, offset);
    const runs = extents === undefined ? undefined : divide(extents);
    if (late !== undefined) return allDone([this.#readOrReject(buf, offset), late]);
    if (runs === undefined) return this.read(buf, offset);
    const reads: Pending[] = [];
    for (let i = 0; i < runs.length; i += 2) {
      const [start = 0, length = 0] = runs.subarray(i, i + 2);
      const part = buf.subarray(start - offset, start - offset + length);
      reads.push(this.#readOrReject(part, start));
    }
    return reads.some((read) => read !== undefined) ? allDone(reads) : undefined;
  }

  #readOrReject(buf: Buffer, offset: number): Pending {
    try {
      return this.read(buf, offset);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  #extentsAreSlow = false;

  /**
   * A lookup that takes as long as the read itself would not pay: then it is never done again. `late`
   * is that one's end: the plugin is at it until then, so the read is not over.
   */
  #extentsNow(count: number, offset: number): { extents?: Float64Array; late?: Promise<void> } {
    if (this.#extentsAreSlow || !this.#facts.canExtents) return {};
    const range = this.#range(count, offset, false);
    try {
      const given = this.#opened.extents(count, offset, new Info(this, 0));
      const promise = adopt(given);
      if (promise !== undefined) {
        this.#extentsAreSlow = true;
        return { late: whenSettled(promise, ignore, ignore) };
      }
      const extents = collectAllocationSync(given, range);
      this.#extentsAreSlow = extents === undefined;
      return extents === undefined ? {} : { extents };
    } catch {
      return {}; // the read will tell
    }
  }

  write(buf: Buffer, offset: number, flags: number): Pending {
    return adopt(this.#opened.write(buf, offset, new Info(this, flags)));
  }

  flush(): Pending {
    return adopt(this.#opened.flush(new Info(this, 0)));
  }

  trim(count: number, offset: number, flags: number): Pending {
    return adopt(this.#opened.trim(count, offset, new Info(this, flags)));
  }

  zero(count: number, offset: number, flags: number): Pending {
    return adopt(this.#opened.zero(count, offset, new Info(this, flags)));
  }

  cache(count: number, offset: number): Pending {
    return adopt(this.#opened.cache(count, offset, new Info(this, 0)));
  }

  async blockStatus(
    contexts: readonly number[],
    count: number,
    offset: number,
    flags: number,
  ): Promise<StatusAnswer> {
    const info = new Info(this, flags);
    const range = this.#range(count, offset, info.reqOne);
    const most = mostExtents(contexts.length);
    const answers: Awaitable<CollectedExtents>[] = [];
    for (const context of contexts) {
      const answer = this.#collect(context, range, most, info);
      answers.push(this.#isParallel ? answer : await answer);
    }
    return new StatusAnswer(answerOf(await Promise.all(answers)));
  }

  async #collect(
    context: number,
    range: Range,
    most: number,
    info: Info,
  ): Promise<CollectedExtents> {
    const { count, offset } = range;
    if (context === 0) {
      const extents = await this.#opened.extents(count, offset, info);
      return collectAllocation(extents ?? [], range, most);
    }
    const name = this.#facts.contexts[context - 1] as string;
    const statuses = await this.#opened.status(name, count, offset, info);
    return collectStatuses(statuses, range, most);
  }

  #range(count: number, offset: number, onlyOne: boolean): Range {
    return { count, offset, sizeBytes: this.#facts.sizeBytes, onlyOne };
  }
}
