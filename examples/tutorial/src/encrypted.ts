// A filter that encrypts what clients write to any disk behind it.

import { defineFilter } from "asyncnbd";
import { blocksize, composed, defineMiddleware, type Middleware } from "asyncnbd/middleware";
import { HEADER_BYTES, unlock } from "./header.js";
import { decryptInPlace, encrypt, SECTOR_BYTES } from "./xts.js";

const sectors = (passphrase: string): Middleware =>
  defineMiddleware({
    name: "encrypted",
    async open(next, info) {
      const disk = await next(info);
      // All clients wait for one key; if it cannot be had, the next one tries again.
      const shared = await info.shared(() => ({ key: undefined as Promise<Buffer> | undefined }));
      shared.key ??= unlock(disk, passphrase);
      const attempt = shared.key;
      const key = await attempt.catch(async (error) => {
        if (shared.key === attempt) shared.key = undefined;
        await disk.close();
        throw error;
      });
      const bytes = disk.facts.sizeBytes - HEADER_BYTES;
      return {
        ...disk,
        facts: {
          ...disk.facts,
          sizeBytes: bytes - (bytes % SECTOR_BYTES),
          blockSize: { minimum: SECTOR_BYTES, preferred: SECTOR_BYTES, maximum: 2 ** 25 },
          zero: disk.facts.canWrite ? "emulate" : "none", // zeroes are encrypted like all data
          canFastZero: false,
          canTrim: false,
          canExtents: false,
          contexts: [],
        },
        async read(buf, offset, request) {
          await disk.read(buf, HEADER_BYTES + offset, request);
          decryptInPlace(key, buf, HEADER_BYTES + offset);
        },
        write: (buf, offset, request) =>
          disk.write(encrypt(key, buf, HEADER_BYTES + offset), HEADER_BYTES + offset, request),
        cache: (count, offset, request) => disk.cache(count, HEADER_BYTES + offset, request),
      };
    },
  });

/**
 * Works over any plugin. The first blocksize() turns requests into whole sectors, the second one turns
 * those into what the plugin takes.
 */
export const encrypted = (passphrase: string): Middleware =>
  composed(blocksize(), sectors(passphrase), blocksize());

export default defineFilter({
  name: "encrypted",
  config: { passphrase: { type: "secret", description: "Or +FILE: its first line" } },
  create: ({ passphrase }) => encrypted(passphrase),
});
