// AES-256 in XTS mode, sector by sector, and the key for it.

import { createCipheriv, createDecipheriv, scrypt } from "node:crypto";

export const SECTOR_BYTES = 4096;
/** Two keys of 256 bits: XTS has one for the data and one for the tweak. */
const KEY_BYTES = 64;
/** 64 MiB and a fifth of a second for each guess at a passphrase. */
const SCRYPT_COST = { N: 2 ** 16, r: 8, p: 1, maxmem: 2 ** 27 };

/** Derives `bytes` more behind the key. Other clients are served meanwhile. */
export async function derive(passphrase: string, salt: Buffer, bytes: number) {
  const derived = await new Promise<Buffer>((resolve, reject) => {
    scrypt(passphrase, salt, KEY_BYTES + bytes, SCRYPT_COST, (error, result) =>
      error === null ? resolve(result) : reject(error),
    );
  });
  return { key: derived.subarray(0, KEY_BYTES), more: derived.subarray(KEY_BYTES) };
}

/** The sector's number, from 0: two sectors with the same content must not look alike. */
function tweakOf(sector: number): Buffer {
  const tweak = Buffer.alloc(16);
  tweak.writeUIntLE(sector, 0, 6);
  return tweak;
}

/** Both buffers hold whole sectors, and may be the same memory. */
function eachSector(
  from: Buffer,
  to: Buffer,
  offset: number,
  convert: (tweak: Buffer, sector: Buffer) => Buffer,
): void {
  for (let at = 0; at < from.length; at += SECTOR_BYTES) {
    const tweak = tweakOf((offset + at) / SECTOR_BYTES);
    convert(tweak, from.subarray(at, at + SECTOR_BYTES)).copy(to, at);
  }
}

/** Returns a copy: the memory of a write is only lent. */
export function encrypt(key: Buffer, plain: Buffer, offset: number): Buffer {
  const secret = Buffer.allocUnsafe(plain.length);
  eachSector(plain, secret, offset, (tweak, sector) =>
    createCipheriv("aes-256-xts", key, tweak).update(sector),
  );
  return secret;
}

export function decryptInPlace(key: Buffer, buf: Buffer, offset: number): void {
  eachSector(buf, buf, offset, (tweak, sector) =>
    createDecipheriv("aes-256-xts", key, tweak).update(sector),
  );
}
