// A chunk of block status: its descriptors, checked.

import { NBD_CMD_BLOCK_STATUS, NBD_REPLY_TYPE_BLOCK_STATUS_EXT } from "../protocol.js";
import type { ExportFacts } from "./facts.js";
import type { Descriptors, Request } from "./request.js";
import { broken } from "./rules.js";

const MAX_DESCRIPTORS = 2 ** 20;

/** Before the payload is received. */
export function checkStatusLength(type: number, bytes: number, request: Request): void {
  if (request.command !== NBD_CMD_BLOCK_STATUS)
    broken("status-command", `this answers a ${request.description}`);
  const [prefix, each] = type === NBD_REPLY_TYPE_BLOCK_STATUS_EXT ? [8, 16] : [4, 8];
  const count = (bytes - prefix) / each;
  if (!Number.isInteger(count) || count < 1 || count > MAX_DESCRIPTORS)
    broken("status-length", `a chunk has ${bytes} bytes`);
}

export function takeStatus(
  request: Request,
  type: number,
  payload: Buffer,
  facts: ExportFacts,
): void {
  const id = payload.readUInt32BE(0);
  const [name] = [...facts.contexts].find(([, known]) => known === id) ?? [];
  if (name === undefined || request.contextIds?.includes(id) === false)
    broken("status-context", `the id is ${id}`);
  request.toldIds ??= new Set();
  if (request.toldIds.has(id)) broken("status-duplicate", `"${name}" has more`);
  const descriptors =
    type === NBD_REPLY_TYPE_BLOCK_STATUS_EXT ? readExtended(payload, name) : read(payload);
  checkDescriptors(request, descriptors, facts);
  request.toldIds.add(id);
  request.takeStatus(id, descriptors);
}

function read(payload: Buffer): Descriptors {
  const count = (payload.length - 4) / 8;
  const lengths = new Float64Array(count);
  const flags = new BigUint64Array(count);
  for (let index = 0; index < count; index++) {
    lengths[index] = payload.readUInt32BE(4 + 8 * index);
    flags[index] = BigInt(payload.readUInt32BE(8 + 8 * index));
  }
  return { lengths, flags };
}

function readExtended(payload: Buffer, name: string): Descriptors {
  const count = (payload.length - 8) / 16;
  const told = payload.readUInt32BE(4);
  if (told !== count) broken("status-count", `it is ${told} instead of ${count}`);
  const lengths = new Float64Array(count);
  const flags = new BigUint64Array(count);
  for (let index = 0; index < count; index++) {
    lengths[index] = Number(payload.readBigUInt64BE(8 + 16 * index));
    flags[index] = payload.readBigUInt64BE(16 + 16 * index);
    if (name.startsWith("base:") && (flags[index] as bigint) >= 2n ** 32n)
      broken("status-bits", `"${name}" has 0x${flags[index]?.toString(16)}`);
  }
  return { lengths, flags };
}

function checkDescriptors(request: Request, { lengths }: Descriptors, facts: ExportFacts): void {
  const { minimum } = facts.blockSizes;
  let total = 0;
  for (const [index, length] of lengths.entries()) {
    if (length === 0) broken("status-empty", `the ${index + 1}. of ${lengths.length} is`);
    if (total >= request.length)
      broken("status-range", `the ${index + 1}. of a ${request.description} begins beyond it`);
    total += length;
    const isLast = request.offset + total === facts.sizeBytes;
    if (length % minimum !== 0 && !isLast)
      broken("status-aligned", `the ${index + 1}. has ${length} bytes`);
  }
  if (request.offset + total > facts.sizeBytes)
    broken("status-end", `they reach ${request.offset + total} of ${facts.sizeBytes} bytes`);
}
