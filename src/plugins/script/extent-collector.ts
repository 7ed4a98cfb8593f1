// Collects what a TypeScript plugin reports about a range, its extents and the statuses of its own
// metadata contexts, as the numbers that native code takes.

import { NBD_STATE_HOLE, NBD_STATE_ZERO } from "../../protocol.js";
import type { Extent, Status } from "./requests.js";

/** Of all contexts together, for one request. */
const MAX_EXTENTS = 2048;
/** The limit for one range, against plugins that report empty extents for ever. */
const MAX_GIVEN = 65_536;

/** A range that is asked about, in bytes. */
export interface Range {
  readonly offset: number;
  readonly count: number;
  /** Of the export. */
  readonly sizeBytes: number;
  /** Only the first extent is wanted. */
  readonly onlyOne: boolean;
}

/** Lengths in bytes, and flags. */
export type CollectedExtents = { length: number; flags: number | bigint }[];

const flagsOf = ({ hole, zero }: Extent): number =>
  (hole ? NBD_STATE_HOLE : 0) | (zero ? NBD_STATE_ZERO : 0);

/** An extent as a status of base:allocation. */
const allocationOf = (extent: Extent): Status => ({
  offset: extent.offset,
  length: extent.length,
  flags: flagsOf(extent),
});

/** Checks what a plugin has given, and keeps of it what lies in the range. */
class ExtentCollector {
  readonly collected: CollectedExtents = [];
  readonly #range: Range;
  readonly #most: number;
  #end: number;
  #given = 0;

  constructor(range: Range, most: number) {
    this.#range = range;
    this.#most = most;
    this.#end = range.offset;
  }

  /** False: no more are needed. Throws unless each begins where the last one ended. */
  add({ offset, length, flags }: Status): boolean {
    const { sizeBytes, count, onlyOne } = this.#range;
    if (!(length >= 0) || !(offset <= this.#end))
      throw new Error(`extents: expected an extent at offset ${this.#end}, got ${offset}`);
    const taken = Math.min(offset + length, sizeBytes) - this.#end;
    if (!Number.isInteger(taken))
      throw new Error(`extents: offset ${offset} and length ${length} must be whole numbers`);
    if (taken > 0) {
      this.#end += taken;
      const last = this.collected.at(-1);
      if (last !== undefined && last.flags === flags) last.length += taken;
      else this.collected.push({ length: taken, flags });
    }
    const isFull =
      this.collected.length === this.#most ||
      ++this.#given === MAX_GIVEN ||
      (onlyOne && this.collected.length > 0);
    return !isFull && this.#end < this.#range.offset + count;
  }

  finish(): CollectedExtents {
    if (this.collected.length === 0)
      throw new Error(`extents: no extent at offset ${this.#range.offset}`);
    return this.collected;
  }
}

/** How many extents each of so many contexts can have. */
export const mostExtents = (contexts: number): number => Math.floor(MAX_EXTENTS / contexts);

export type Statuses = Iterable<Status> | AsyncIterable<Status>;
export type Extents = Iterable<Extent> | AsyncIterable<Extent>;

export const collectStatuses = (
  statuses: Statuses,
  range: Range,
  most: number,
): Promise<CollectedExtents> =>
  collect(statuses, (status) => status, new ExtentCollector(range, most));

export const collectAllocation = (
  extents: Extents,
  range: Range,
  most: number,
): Promise<CollectedExtents> => collect(extents, allocationOf, new ExtentCollector(range, most));

async function collect<T>(
  given: Iterable<T> | AsyncIterable<T>,
  statusOf: (one: T) => Status,
  collector: ExtentCollector,
): Promise<CollectedExtents> {
  if (Symbol.asyncIterator in given) {
    for await (const one of given) if (!collector.add(statusOf(one))) break;
  } else {
    for (const one of given) if (!collector.add(statusOf(one))) break;
  }
  return collector.finish();
}

/** Without a promise; undefined if the plugin answers asynchronously or wrongly. */
export function collectAllocationSync(extents: unknown, range: Range): Float64Array | undefined {
  if (typeof extents !== "object" || extents === null || !(Symbol.iterator in extents))
    return undefined;
  const collector = new ExtentCollector(range, MAX_EXTENTS);
  try {
    for (const extent of extents as Iterable<Extent>)
      if (!collector.add(allocationOf(extent))) break;
  } catch {
    return undefined;
  }
  return Float64Array.from(
    collector.collected.flatMap(({ length, flags }) => [length, Number(flags)]),
  );
}

/** As native code takes it: for each context a count, then its extents. */
export function answerOf(answer: readonly CollectedExtents[]): Float64Array {
  return Float64Array.from(
    answer.flatMap((extents) => [
      extents.length,
      ...extents.flatMap(({ length, flags }) => {
        const bits = BigInt.asUintN(64, BigInt(flags));
        return [length, Number(bits & 0xffffffffn), Number(bits >> 32n)];
      }),
    ]),
  );
}
