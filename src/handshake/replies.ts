// Replies to options as bytes ("Option haggling", "NBD_INFO information types").

import type { BlockSizes, ExportEntry } from "../addon/types.js";
import {
  NBD_INFO_BLOCK_SIZE,
  NBD_INFO_DESCRIPTION,
  NBD_INFO_EXPORT,
  NBD_INFO_NAME,
  NBD_REP_INFO,
  NBD_REP_MAGIC,
  NBD_REP_META_CONTEXT,
  NBD_REP_SERVER,
} from "../protocol.js";

const HEADER_BYTES = 20;

export function optionReply(option: number, reply: number, data = new Uint8Array()): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES + data.length);
  const header = new DataView(bytes.buffer);
  header.setBigUint64(0, NBD_REP_MAGIC);
  header.setUint32(8, option);
  header.setUint32(12, reply);
  header.setUint32(16, data.length);
  bytes.set(data, HEADER_BYTES);
  return bytes;
}

/** One entry of a list of exports. */
export function serverReply(option: number, entry: ExportEntry): Uint8Array {
  const name = new TextEncoder().encode(entry.name);
  const data = Buffer.concat([
    new Uint8Array(4),
    name,
    new TextEncoder().encode(entry.description),
  ]);
  data.writeUInt32BE(name.length, 0);
  return optionReply(option, NBD_REP_SERVER, data);
}

export function metaContextReply(option: number, id: number, name: string): Uint8Array {
  const data = Buffer.concat([new Uint8Array(4), Buffer.from(name)]);
  data.writeUInt32BE(id, 0);
  return optionReply(option, NBD_REP_META_CONTEXT, data);
}

function infoReply(option: number, info: number, payload: Uint8Array): Uint8Array {
  const data = Buffer.concat([new Uint8Array(2), payload]);
  data.writeUInt16BE(info, 0);
  return optionReply(option, NBD_REP_INFO, data);
}

export function exportInfo(option: number, sizeBytes: bigint, flags: number): Uint8Array {
  const payload = Buffer.alloc(10);
  payload.writeBigUInt64BE(sizeBytes, 0);
  payload.writeUInt16BE(flags, 8);
  return infoReply(option, NBD_INFO_EXPORT, payload);
}

export function nameInfo(option: number, name: string): Uint8Array {
  return infoReply(option, NBD_INFO_NAME, Buffer.from(name));
}

export function descriptionInfo(option: number, description: string): Uint8Array {
  return infoReply(option, NBD_INFO_DESCRIPTION, Buffer.from(description));
}

export function blockSizeInfo(option: number, sizes: BlockSizes): Uint8Array {
  const payload = Buffer.alloc(12);
  sizes.forEach((size, index) => {
    payload.writeUInt32BE(size, index * 4);
  });
  return infoReply(option, NBD_INFO_BLOCK_SIZE, payload);
}
