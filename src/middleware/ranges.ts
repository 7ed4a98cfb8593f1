// The native filters that show an export as another part of itself, or as larger, or protect parts.

import type { Middleware } from "../plugins/script/layer.js";
import { nativeMiddleware } from "./define.js";

export interface OffsetOptions {
  /** Where the part begins, in bytes. By default 0. */
  readonly offset?: number | bigint;
  /** Its length. By default all that is left. */
  readonly range?: number | bigint;
}

/** Clients see a part of the export, as all there is. */
export function offset(options: OffsetOptions): Middleware {
  return nativeMiddleware({ name: "offset", options: { ...options } });
}

export interface PartitionOptions {
  /** The size of the disk's sectors. By default 512. */
  readonly sectorBytes?: 512 | 4096;
}

/**
 * Clients see one partition of a disk with an MBR or a GPT, counted from 1; of an MBR, logical ones
 * from 5.
 */
export function partition(number: number, { sectorBytes }: PartitionOptions = {}): Middleware {
  return nativeMiddleware({ name: "partition", options: { number, sectorBytes } });
}

export interface TruncateOptions {
  /** In bytes. By default the export's own. */
  readonly size?: number | bigint;
  /** A power of two, to a multiple of which the size is made larger; then `roundDown`, to make it smaller. */
  readonly roundUp?: number;
  readonly roundDown?: number;
}

/**
 * The export has another size. What is behind the end of the plugin's disk reads as zeroes, and only
 * zeroes can be written there.
 */
export function truncate(options: TruncateOptions): Middleware {
  return nativeMiddleware({ name: "truncate", options: { ...options } });
}

/**
 * Writes that would change these parts of the export fail. A part is "FIRST-LAST", in bytes, either
 * of which may be missing; or "~FIRST-LAST", which is all but that.
 */
export function protect(...ranges: readonly string[]): Middleware {
  return nativeMiddleware({ name: "protect", options: { ranges } });
}
