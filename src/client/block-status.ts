// Block status as extents: replies tell of as much as the server likes, and more requests follow.

import { BASE_ALLOCATION, NBD_STATE_HOLE, NBD_STATE_ZERO } from "../protocol.js";
import type { Descriptors } from "./request.js";

export interface BlockStatusOptions {
  /** Of `contexts` of the client. By default "base:allocation". */
  readonly context?: string;
  /** Ends the iteration: its next step rejects with the reason. */
  readonly signal?: AbortSignal | undefined;
}

/** A part of the export that has one status. */
export interface Extent {
  /** In bytes. */
  readonly offset: number;
  readonly length: number;
  /** What the context says, in its own bits: 64 with extended headers. */
  readonly flags: bigint;
  /** Of "base:allocation": no space is allocated. Other contexts: false. */
  readonly isHole: boolean;
  /** Of "base:allocation": it reads as zeroes. Other contexts: false. */
  readonly isZero: boolean;
}

function extent(offset: number, length: number, flags: bigint, isAllocation: boolean): Extent {
  const bits = isAllocation ? Number(flags & 3n) : 0;
  const isHole = (bits & NBD_STATE_HOLE) !== 0;
  const isZero = (bits & NBD_STATE_ZERO) !== 0;
  return { offset, length, flags, isHole, isZero };
}

export async function* extentsOf(
  offset: number,
  length: number,
  context: string,
  ask: (offset: number, length: number) => Promise<Descriptors>,
): AsyncGenerator<Extent, void> {
  const isAllocation = context === BASE_ALLOCATION;
  const end = offset + length;
  let begin = offset; // of the extent that may still grow
  let flags: bigint | undefined;
  for (let at = offset; at < end; ) {
    const told = await ask(at, end - at);
    for (let index = 0; index < told.lengths.length && at < end; index++) {
      const next = told.flags[index] as bigint;
      if (flags !== undefined && next !== flags) {
        yield extent(begin, at - begin, flags, isAllocation);
        begin = at;
      }
      flags = next;
      at = Math.min(at + (told.lengths[index] as number), end);
    }
  }
  if (flags !== undefined) yield extent(begin, end - begin, flags, isAllocation);
}
