// The header in the first sector of an encrypted disk: salt and check for its passphrase.

import { randomBytes, timingSafeEqual } from "node:crypto";
import { failure } from "asyncnbd";
import type { OpenExport } from "asyncnbd/middleware";
import { derive, SECTOR_BYTES } from "./xts.js";

export const HEADER_BYTES = SECTOR_BYTES;
const MAGIC = Buffer.from("tutorial xts 1\n\0");
const SALT_BYTES = 32;
const CHECK_BYTES = 32;

const asked = { signal: new AbortController().signal };

/** The key of the disk behind. A disk that begins with a sector of zeroes gets a header. */
export async function unlock(disk: OpenExport, passphrase: string): Promise<Buffer> {
  if (disk.facts.sizeBytes < HEADER_BYTES) throw failure("EINVAL", "the disk is too small");
  const header = Buffer.alloc(HEADER_BYTES);
  await disk.read(header, 0, asked);
  if (header.every((byte) => byte === 0)) return format(disk, passphrase);
  if (!header.subarray(0, MAGIC.length).equals(MAGIC))
    throw failure("EINVAL", "the disk has something else on it: use an empty one");
  const salt = header.subarray(MAGIC.length, MAGIC.length + SALT_BYTES);
  const check = header.subarray(MAGIC.length + SALT_BYTES).subarray(0, CHECK_BYTES);
  const { key, more } = await derive(passphrase, salt, CHECK_BYTES);
  if (!timingSafeEqual(more, check)) throw failure("EPERM", "this is not the disk's passphrase");
  return key;
}

async function format(disk: OpenExport, passphrase: string): Promise<Buffer> {
  if (!disk.facts.canWrite) throw failure("EROFS", "an empty disk must be writable to begin with");
  const salt = randomBytes(SALT_BYTES);
  const { key, more } = await derive(passphrase, salt, CHECK_BYTES);
  const header = Buffer.alloc(HEADER_BYTES);
  Buffer.concat([MAGIC, salt, more]).copy(header);
  await disk.write(header, 0, { ...asked, fua: false });
  if (disk.facts.canFlush) await disk.flush(asked); // without its salt, all is lost
  return key;
}
