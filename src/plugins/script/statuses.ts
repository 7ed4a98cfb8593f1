// What a plugin in TypeScript says of ranges: its extents, and the statuses of its own metadata
// contexts, as the numbers that native code takes.

import { NBD_STATE_HOLE, NBD_STATE_ZERO } from "./commands.js";
import type { Extent, Status } from "./definition.js";

// The layout of ScriptBatch in script_bridge.hpp.
const EXTENT_NUMBERS = 3;
const MAX_STATUS_NUMBERS = 1 + EXTENT_NUMBERS * 2048;
/** Of the memory in which a block status is asked and answered. */
export const STATUS_BYTES = 8 * MAX_STATUS_NUMBERS;

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
export type Told = { length: number; flags: number | bigint }[];

const flagsOf = ({ hole, zero }: Extent): number =>
  (hole ? NBD_STATE_HOLE : 0) | (zero ? NBD_STATE_ZERO : 0);

/** Extents as a context's statuses. */
export async function* allocation(
  extents: Iterable<Extent> | AsyncIterable<Extent> | undefined,
): AsyncGenerator<Status> {
  for await (const extent of extents ?? [])
    yield { offset: extent.offset, length: extent.length, flags: flagsOf(extent) };
}

/** Checks what a plugin has given, and keeps of it what lies in the range. */
export class Teller {
  readonly told: Told = [];
  readonly #range: Range;
  readonly #most: number;
  #end: number;

  constructor(range: Range, most: number) {
    this.#range = range;
    this.#most = most;
    this.#end = range.offset;
  }

  /** False: it is enough. Throws if statuses do not follow each other. */
  add({ offset, length, flags }: Status): boolean {
    const { sizeBytes, count, onlyOne } = this.#range;
    if (!(length >= 0) || offset > this.#end)
      throw new Error(`extents: one begins at ${offset}, where ${this.#end} was due`);
    const taken = Math.min(offset + length, sizeBytes) - this.#end;
    if (taken > 0) {
      this.#end += taken;
      const last = this.told.at(-1);
      if (last !== undefined && last.flags === flags) last.length += taken;
      else this.told.push({ length: taken, flags });
    }
    const isFull = this.told.length === this.#most || (onlyOne && this.told.length > 0);
    return !isFull && this.#end < this.#range.offset + count;
  }

  finish(): Told {
    if (this.told.length === 0) throw new Error(`extents: none for offset ${this.#range.offset}`);
    return this.told;
  }
}

/** How many extents each of so many contexts can have. */
export const mostExtents = (contexts: number): number =>
  Math.floor((MAX_STATUS_NUMBERS - contexts) / (EXTENT_NUMBERS * contexts));

export async function tell(
  statuses: Iterable<Status> | AsyncIterable<Status>,
  range: Range,
  most: number,
): Promise<Told> {
  const teller = new Teller(range, most);
  for await (const status of statuses) if (!teller.add(status)) break;
  return teller.finish();
}

/** At once; undefined if the plugin takes its time, or what it says makes no sense. */
export function tellAtOnce(extents: unknown, range: Range): Float64Array | undefined {
  if (typeof extents !== "object" || extents === null || !(Symbol.iterator in extents))
    return undefined;
  const teller = new Teller(range, MAX_STATUS_NUMBERS);
  try {
    for (const extent of extents as Iterable<Extent>)
      if (!teller.add({ ...extent, flags: flagsOf(extent) })) break;
  } catch {
    return undefined;
  }
  return Float64Array.from(teller.told.flatMap(({ length, flags }) => [length, Number(flags)]));
}

/** The numbers of the contexts that are asked about. */
export function questionOf(memory: Buffer): number[] {
  const numbers = new Float64Array(memory.buffer, memory.byteOffset, MAX_STATUS_NUMBERS);
  return Array.from(numbers.subarray(1, 1 + (numbers[0] as number)));
}

/** In the place of the question: for each context a count, then its extents. */
export function writeAnswer(memory: Buffer, answer: readonly Told[]): void {
  const numbers = new Float64Array(memory.buffer, memory.byteOffset, MAX_STATUS_NUMBERS);
  let at = 0;
  for (const told of answer) {
    numbers[at++] = told.length;
    for (const { length, flags } of told) {
      const bits = BigInt.asUintN(64, BigInt(flags));
      numbers[at++] = length;
      numbers[at++] = Number(bits & 0xffffffffn);
      numbers[at++] = Number(bits >> 32n);
    }
  }
}
