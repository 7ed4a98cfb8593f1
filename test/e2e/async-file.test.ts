// The shipped asynchronous file plugin, by each of its engines, with and without the page cache.

import { createHash, randomBytes } from "node:crypto";
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { run } from "../support/command.js";
import { randomLoad, verifyByFio } from "../support/fio.js";
import { CMD, ERRNO, FLAG } from "../support/protocol.js";
import { RawClient } from "../support/raw-client.js";
import { refusalOf } from "../support/refusal.js";
import { startServer, temporaryDirectory } from "../support/server.js";

const sha256 = (data: Uint8Array): string => createHash("sha256").update(data).digest("hex");

const { READ, WRITE, FLUSH, TRIM, CACHE, WRITE_ZEROES } = CMD;
const { FUA, NO_HOLE } = FLAG;

function makeFile(bytes: Buffer): string {
  const file = join(temporaryDirectory(), "disk");
  writeFileSync(file, bytes);
  return file;
}

describe.each([
  ["io_uring", []],
  ["io_uring", ["inline=false"]],
  ["threads", ["inline=false"]],
  ["threads", ["inline=false", "threads=1"]],
  ["io_uring", ["direct=true"]],
  ["threads", ["direct=true"]],
])("async-file, engine %s %s", (engine, more) => {
  const start = (file: string) => startServer(["async-file", file, `engine=${engine}`, ...more]);

  test("is copied whole, both ways", async () => {
    const content = randomBytes((8 << 20) + 512); // the last block is not a whole one
    const server = await start(makeFile(content));
    const copy = makeFile(Buffer.alloc(0));
    const out = await run(["nbdcopy", "--connections=4", server.uri, copy]);
    expect(out).toMatchObject({ status: 0, stderr: "" });
    expect(sha256(readFileSync(copy))).toBe(sha256(content));

    const target = makeFile(Buffer.alloc(content.length));
    const other = await start(target);
    const back = await run(["nbdcopy", "--flush", "--connections=4", copy, other.uri]);
    expect(back).toMatchObject({ status: 0, stderr: "" });
    expect(sha256(readFileSync(target))).toBe(sha256(content));
  });

  test("verifies under random writes and reads at depth 64", async () => {
    const server = await start(makeFile(Buffer.alloc(16 << 20)));
    await verifyByFio(server, randomLoad(64, "16m", "16m"));
  });

  // More of the large ones than may be under way.
  test("answers large and small reads of many clients, each with its own data", async () => {
    const content = randomBytes(8 << 20);
    const server = await start(makeFile(content));
    const reads = Array.from({ length: 32 }, (_, i) => ({
      type: READ,
      cookie: BigInt(i),
      offset: BigInt((i % 8) << 20),
      length: i % 2 === 0 ? 1 << 20 : 512,
    }));
    const ask = async () => {
      const client = await RawClient.open(server.where);
      for (const read of reads) client.sendRequest(read);
      const unanswered = new Set(reads);
      while (unanswered.size > 0) {
        const { error, cookie } = await client.readReply();
        const read = reads[Number(cookie)] as (typeof reads)[number];
        expect(error).toBe(0);
        expect(unanswered.delete(read)).toBe(true);
        const start = Number(read.offset);
        const expected = content.subarray(start, start + read.length);
        expect((await client.read(read.length)).equals(expected)).toBe(true);
      }
    };
    await Promise.all(Array.from({ length: 16 }, ask));
  });

  test("serves every command", async () => {
    const file = makeFile(Buffer.alloc(1 << 20, 7));
    const client = await RawClient.connect((await start(file)).socket);
    await client.go();
    const at = (kib: number) => BigInt(kib << 10);
    const payload = Buffer.alloc(4096, 9);
    expect(
      await client.request({ type: WRITE, offset: at(4), length: 4096, payload, flags: FUA }),
    ).toBe(0);
    const odd = { type: WRITE, offset: 1n, length: 3, payload: payload.subarray(0, 3) };
    expect(await client.request(odd)).toBe(0);
    const range = { offset: at(64), length: 65536 };
    expect(await client.request({ type: WRITE_ZEROES, ...range, flags: FUA })).toBe(0);
    const solid = { type: WRITE_ZEROES, offset: at(256), length: 65536, flags: NO_HOLE };
    expect(await client.request(solid)).toBe(0);
    expect(await client.request({ type: TRIM, offset: at(512), length: 65536 })).toBe(0);
    expect(await client.request({ type: CACHE, offset: 0n, length: 65536 })).toBe(0);
    expect(await client.request({ type: FLUSH })).toBe(0);
    expect(await client.request({ type: READ, offset: 0n, length: 1 << 20 })).toBe(0);
    const expected = Buffer.alloc(1 << 20, 7);
    payload.copy(expected, 4096);
    payload.copy(expected, 1, 0, 3);
    expected.fill(0, 64 << 10, 128 << 10);
    expected.fill(0, 256 << 10, 320 << 10);
    expected.fill(0, 512 << 10, 576 << 10);
    expect((await client.read(1 << 20)).equals(expected)).toBe(true);
    expect(readFileSync(file).equals(expected)).toBe(true);
  });
});

test("async-file makes holes for zeroes if it may", async () => {
  const file = makeFile(Buffer.alloc(1 << 20, 7));
  const client = await RawClient.connect((await startServer(["async-file", file])).socket);
  await client.go();
  const before = statSync(file).blocks;
  expect(await client.request({ type: WRITE_ZEROES, offset: 0n, length: 1 << 19 })).toBe(0);
  expect(statSync(file).blocks).toBeLessThan(before);
});

test("async-file fails reads of a file that has become shorter, and goes on", async () => {
  const file = makeFile(Buffer.alloc(1 << 20, 7));
  const client = await RawClient.connect((await startServer(["async-file", file])).socket);
  await client.go();
  writeFileSync(file, Buffer.alloc(4096, 1));
  expect(await client.request({ type: READ, offset: 65536n, length: 512 })).toBe(ERRNO.EIO);
  expect(await client.request({ type: READ, offset: 0n, length: 512 })).toBe(0);
  expect(await client.read(512)).toEqual(Buffer.alloc(512, 1));
});

test.each([
  [["async-file"], "file to serve is missing"],
  [["async-file", "/no/such/file"], "/no/such/file"],
  [["async-file", "/etc/passwd", "engine=magic"], "engine=magic: use auto, io_uring or threads"],
  [["async-file", "/etc/passwd", "threads=0"], "threads=0"],
])("%j is a mistake that is explained", async (args, message) => {
  expect(await refusalOf(args)).toContain(message);
});
