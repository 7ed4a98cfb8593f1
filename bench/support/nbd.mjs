// The few bytes of NBD that benchmarks send themselves; test/unit/constants.test.ts compares the
// numbers with the product's.

export const NBD_OPT_EXPORT_NAME = 1;
export const NBD_OPT_ABORT = 2;
export const NBD_CMD_READ = 0;
export const NBD_CMD_WRITE = 1;
export const NBD_REQUEST_MAGIC = 0x25609513;

/** From the greeting on: client flags, and an option without data. @param {number} option */
export function firstOption(option) {
  const bytes = Buffer.from("\0\0\0\x03IHAVEOPT\0\0\0\0\0\0\0\0", "latin1");
  bytes.writeUInt32BE(option, 12);
  return bytes;
}

/**
 * @param {number} type
 * @param {number} offset
 * @param {number} length
 */
export function request(type, offset, length) {
  const header = Buffer.alloc(28);
  header.writeUInt32BE(NBD_REQUEST_MAGIC, 0);
  header.writeUInt16BE(type, 6);
  header.writeBigUInt64BE(BigInt(offset), 16);
  header.writeUInt32BE(length, 24);
  return header;
}
