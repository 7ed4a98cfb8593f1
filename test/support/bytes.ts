// Numbers and strings as NBD sends them: big-endian, a string behind its length.

export const joined = Buffer.concat;

export function u16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

export function u64(value: bigint | number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
}

/** A string of the handshake. */
export const text = (value: string): Buffer =>
  joined([u32(Buffer.byteLength(value)), Buffer.from(value)]);
