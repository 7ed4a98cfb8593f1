// What the handshake has told of an export, checked.

import {
  NBD_FLAG_BLOCK_STATUS_PAYLOAD,
  NBD_FLAG_CAN_MULTI_CONN,
  NBD_FLAG_HAS_FLAGS,
  NBD_FLAG_READ_ONLY,
  NBD_FLAG_ROTATIONAL,
  NBD_FLAG_SEND_CACHE,
  NBD_FLAG_SEND_DF,
  NBD_FLAG_SEND_FAST_ZERO,
  NBD_FLAG_SEND_FLUSH,
  NBD_FLAG_SEND_FUA,
  NBD_FLAG_SEND_TRIM,
  NBD_FLAG_SEND_WRITE_ZEROES,
} from "../protocol.js";
import { broken } from "./rules.js";

/** How replies are encoded: the handshake settles on one. */
export type ReplyStyle = "simple" | "structured" | "extended";

/** In bytes: requests are multiples of the minimum, and payloads no longer than the maximum. */
export interface BlockSizes {
  readonly minimum: number;
  readonly preferred: number;
  readonly maximum: number;
}

/** What an export can do. */
export interface Capabilities {
  readonly canWrite: boolean;
  readonly canFlush: boolean;
  /** Writes, zeroes and trims that are on stable storage when they are answered. */
  readonly canFua: boolean;
  readonly canTrim: boolean;
  readonly canZero: boolean;
  /** Zeroing that fails at once where it would be as slow as writing. */
  readonly canFastZero: boolean;
  readonly canCache: boolean;
  /** Several connections see each other's writes, and a flush is for all of them. */
  readonly canMultiConn: boolean;
  /** Reads in one piece. */
  readonly canReadWhole: boolean;
  /** Block status of some of the contexts alone. */
  readonly canNarrowStatus: boolean;
  readonly isRotational: boolean;
}

/** An export as the handshake has shown it. */
export interface ExportFacts extends Capabilities {
  readonly exportName: string;
  /** The name that the server gives it, where it says so. */
  readonly canonicalName: string | undefined;
  readonly description: string | undefined;
  readonly sizeBytes: number;
  /** Transmission flags as they came. */
  readonly flags: number;
  readonly blockSizes: BlockSizes;
  /** Whether the server announced block sizes, or they are the specification's defaults. */
  readonly hasBlockSizes: boolean;
  readonly style: ReplyStyle;
  /** Meta contexts by name, with their ids. */
  readonly contexts: ReadonlyMap<string, number>;
  readonly isEncrypted: boolean;
}

/** Where the server announces none: "Size constraints". */
export const DEFAULT_BLOCK_SIZES: BlockSizes = {
  minimum: 1,
  preferred: 4096,
  maximum: 32 * 2 ** 20,
};

const isPowerOfTwo = (value: number): boolean =>
  value > 0 && 2 ** Math.round(Math.log2(value)) === value;

export function checkBlockSizes(sizes: BlockSizes): BlockSizes {
  const { minimum, preferred, maximum } = sizes;
  if (!isPowerOfTwo(minimum) || minimum > 65536) broken("block-size-minimum", `it is ${minimum}`);
  if (!isPowerOfTwo(preferred) || preferred < Math.max(512, minimum))
    broken("block-size-preferred", `it is ${preferred}, and the minimum ${minimum}`);
  if (maximum < preferred) broken("block-size-maximum", `it is ${maximum} of ${preferred}`);
  return sizes;
}

/** Older ways into an export give flags that were not yet told apart from none. */
export function checkFlags(flags: number, style: ReplyStyle): void {
  const words = `the flags are 0x${flags.toString(16)}`;
  if ((flags & NBD_FLAG_HAS_FLAGS) === 0) broken("has-flags", words);
  if ((flags & NBD_FLAG_SEND_DF) !== 0 && style === "simple") broken("flag-df", words);
  if ((flags & NBD_FLAG_SEND_FAST_ZERO) !== 0 && (flags & NBD_FLAG_SEND_WRITE_ZEROES) === 0)
    broken("flag-fast-zero", words);
  if ((flags & NBD_FLAG_BLOCK_STATUS_PAYLOAD) !== 0 && style !== "extended")
    broken("flag-status-payload", words);
}

export function capabilitiesOf(flags: number): Capabilities {
  const has = (flag: number): boolean => (flags & flag) !== 0;
  const canWrite = !has(NBD_FLAG_READ_ONLY);
  return {
    canWrite,
    canFlush: has(NBD_FLAG_SEND_FLUSH),
    canFua: has(NBD_FLAG_SEND_FUA),
    canTrim: canWrite && has(NBD_FLAG_SEND_TRIM),
    canZero: canWrite && has(NBD_FLAG_SEND_WRITE_ZEROES),
    canFastZero: canWrite && has(NBD_FLAG_SEND_FAST_ZERO),
    canCache: has(NBD_FLAG_SEND_CACHE),
    canMultiConn: has(NBD_FLAG_CAN_MULTI_CONN),
    canReadWhole: has(NBD_FLAG_SEND_DF),
    canNarrowStatus: has(NBD_FLAG_BLOCK_STATUS_PAYLOAD),
    isRotational: has(NBD_FLAG_ROTATIONAL),
  };
}
