// Plugins in TypeScript whose disk is memory: large requests move between it and the client without
// a copy, and all that can happen to a request leaves the disk as it should be.

import { randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { verifyByFio } from "../support/fio.js";
import { MIB } from "../support/fixtures.js";
import { passingFilter } from "../support/passing-filter.js";
import { CMD, ERRNO } from "../support/protocol.js";
import { encodeRequest, RawClient } from "../support/raw-client.js";
import { sanitizer, startServer, temporaryDirectory } from "../support/server.js";

const KIB = 1024;
const SIZE = 16 * MIB;

/** A plugin in a module; `disk` is its memory. */
function plugin(body = "", allocate = `allocateDisk(${SIZE})`): string {
  const path = join(temporaryDirectory(), "disk.ts");
  writeFileSync(
    path,
    `import { allocateDisk, definePlugin } from "asyncnbd";
     const disk = ${allocate};
     const isInPlace = (buf, offset) =>
       buf.buffer === disk.buffer && buf.byteOffset === disk.byteOffset + offset;
     export default definePlugin({
       name: "disk",
       getSize: () => ${SIZE},
       canMultiConn: () => true,
       memory: () => disk,
       async pread(_handle, buf, offset) { disk.copy(buf, 0, offset, offset + buf.length); },
       async pwrite(_handle, buf, offset) { buf.copy(disk, offset); },
       ${body}
     });`,
  );
  return path;
}

const load = (block: string, size: string, more: string[] = []): string[] => [
  ...["--rw=randrw", `--bs=${block}`, "--iodepth=16", `--size=${size}`, "--io_size=64m", ...more],
];

describe.each<[string, string[]]>([
  ["by itself", []],
  ["behind a native filter", ["--filter=cacheextents"]],
  ["behind cow", ["--filter=cow"]],
  ["behind middleware", [passingFilter()]],
  ["on a thread of its own", ["--workers=1"]],
  ["without shortcuts", ["-D", "asyncnbd.shortcuts=0"]],
])("a disk in memory %s", (_where, options) => {
  test.each(["4k", "64k", "256k", "1m"])("keeps what is written in blocks of %s", async (block) => {
    const server = await startServer([plugin()], { options });
    await verifyByFio(server, load(block, "16m"));
    await verifyByFio(server, load(block, "5m", ["--numjobs=3", "--offset_increment=5m"]));
    await server.stop();
  });
});

// A read of one byte tells of the write before.
const TELLING = `
  async pread(_handle, buf, offset) {
    buf.fill(buf.length === 1 ? disk[0] : isInPlace(buf, offset) ? 1 : 2);
  },
  async pwrite(_handle, buf, offset) { disk[0] = isInPlace(buf, offset) ? 1 : 2; }`;

test.each([
  ["copies", 4 * KIB, 2],
  ["no copies", 64 * KIB, 1],
  ["no copies", 2 * MIB, 1],
])("the plugin gets %s of data in requests of %d bytes", async (_what, length, expected) => {
  const server = await startServer([plugin(TELLING)]);
  const client = await RawClient.open(server.socket);
  expect(await client.request({ type: CMD.READ, offset: 4096n, length })).toBe(0);
  expect((await client.read(length)).every((byte) => byte === expected)).toBe(true);

  client.socket.write(encodeRequest({ type: CMD.WRITE, offset: BigInt(MIB), length }));
  await new Promise((resolve) => setTimeout(resolve, 50)); // not in one piece with what follows
  client.socket.write(Buffer.alloc(length));
  expect((await client.readReply()).error).toBe(0);
  expect(await client.request({ type: CMD.READ, offset: 0n, length: 1 })).toBe(0);
  expect((await client.read(1))[0]).toBe(expected);
});

test("a write that the plugin refuses fails, and a read", async () => {
  const path = plugin(`
    async pwrite() { throw Object.assign(new Error("no"), { code: "ENOSPC" }); },
    async pread(_handle, buf, offset) { if (offset > 0) throw new Error("no"); }`);
  const server = await startServer([path]);
  const client = await RawClient.open(server.socket);
  for (const length of [4 * KIB, 256 * KIB]) {
    const payload = Buffer.alloc(length, 1);
    expect(await client.request({ type: CMD.WRITE, offset: 0n, payload })).toBe(ERRNO.ENOSPC);
    expect(await client.request({ type: CMD.READ, offset: 4096n, length })).toBe(ERRNO.EIO);
  }
});

test("a client that leaves in the middle of a payload costs nobody else anything", async () => {
  const server = await startServer([plugin()]);
  const other = await RawClient.open(server.socket);
  for (let round = 0; round < 5; round++) {
    const leaver = await RawClient.open(server.socket);
    for (let i = 0; i < 20; i++) {
      const payload = Buffer.alloc(128 * KIB, i);
      expect(await leaver.request({ type: CMD.WRITE, offset: 0n, payload })).toBe(0);
    }
    const request = encodeRequest({ type: CMD.WRITE, offset: 0n, length: MIB });
    leaver.socket.write(Buffer.concat([request, Buffer.alloc(300 * KIB, 0x77)]));
    await new Promise((resolve) => setTimeout(resolve, 20));
    leaver.socket.destroy();
    const payload = randomBytes(256 * KIB);
    const offset = BigInt(8 * MIB);
    expect(await other.request({ type: CMD.WRITE, offset, payload })).toBe(0);
    expect(await other.request({ type: CMD.READ, offset, length: payload.length })).toBe(0);
    expect((await other.read(payload.length)).equals(payload)).toBe(true);
  }
  const { status } = await server.stop();
  expect(status).toBe(0);
});

test.each<[string, string, string]>([
  [
    "is ordinary",
    `Buffer.alloc(${SIZE})`,
    "disk: memory returned a Buffer that is not from allocateDisk",
  ],
  [
    "is no Buffer",
    `new Uint8Array(allocateDisk(${SIZE}).buffer)`,
    "disk: memory returned what is no Buffer: return one from allocateDisk",
  ],
  [
    "is too small",
    "allocateDisk(1000)",
    `disk: memory returned 1000 bytes for a disk of ${SIZE} bytes`,
  ],
])("memory that %s is refused", async (_what, allocate, words) => {
  const server = await startServer([plugin("", allocate)]);
  await expect(RawClient.open(server.socket)).rejects.toThrow();
  const { stderr } = await server.stop();
  expect(stderr).toContain(words);
});

test.skipIf(sanitizer)("allocateDisk refuses what cannot be a size", async () => {
  const { allocateDisk } = await import("asyncnbd");
  for (const size of [-1, 1.5, Number.NaN, 2 ** 60])
    expect(() => allocateDisk(size)).toThrow(`allocateDisk(${size}): use a whole number of bytes`);
  expect(allocateDisk(0).length).toBe(0);
  const disk = allocateDisk(100_000);
  expect(disk.every((byte) => byte === 0)).toBe(true);
  try {
    structuredClone(disk.buffer, { transfer: [disk.buffer as ArrayBuffer] });
  } catch {
    // some versions of Node refuse it, others copy
  }
  expect(disk.length).toBe(100_000);
});
