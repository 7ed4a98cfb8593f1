// What the shipped memory plugin does beyond reading and writing.

import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { runOk } from "../support/command.js";
import { MIB, patternBytes } from "../support/fixtures.js";
import { residentKib } from "../support/process.js";
import { CMD } from "../support/protocol.js";
import { RawClient } from "../support/raw-client.js";
import { refusalOf } from "../support/refusal.js";
import { eventually, sanitizer, startServer } from "../support/server.js";

const { WRITE, TRIM, WRITE_ZEROES } = CMD;

describe("the memory plugin", () => {
  test("holds 2^63-1 bytes, with data at both ends and across boundaries", async () => {
    const server = await startServer(["memory", "9223372036854775807"]);
    const client = await RawClient.connect(server.socket);
    expect((await client.go()).sizeBytes).toBe(2n ** 63n - 1n);
    const data = patternBytes(8192);
    for (const offset of [
      0n,
      2n ** 20n - 4096n,
      2n ** 34n - 4096n,
      2n ** 48n - 1n,
      2n ** 62n - 1n,
      2n ** 63n - 8193n,
    ]) {
      expect(await client.request({ type: WRITE, offset, payload: data })).toBe(0);
      expect((await client.readAt(offset, data.length)).equals(data)).toBe(true);
    }
    expect((await client.readAt(2n ** 61n, 4096)).equals(Buffer.alloc(4096))).toBe(true);
    await server.stop();
  });

  test.each([
    ["trim", TRIM],
    ["zero", WRITE_ZEROES],
  ])("takes memory for data and frees it on %s", async (_name, type) => {
    const server = await startServer(["memory", "1T"]);
    const client = await RawClient.open(server.socket);
    await client.readAt(0n, 32 * MIB);
    const before = residentKib(server.pid);
    for (let i = 0; i < 64; i++)
      await client.request({
        type: WRITE,
        offset: BigInt(i * 5 * MIB),
        payload: Buffer.alloc(MIB, i + 1),
      });
    const full = residentKib(server.pid);
    expect(full - before).toBeGreaterThan(60 << 10);
    expect(full - before).toBeLessThan(80 << 10);
    expect(await client.request({ type, length: 64 * 5 * MIB })).toBe(0);
    await eventually("return of the memory", () =>
      residentKib(server.pid) < full - (60 << 10) ? true : undefined,
    );
    expect((await client.readAt(BigInt(5 * MIB), MIB)).equals(Buffer.alloc(MIB))).toBe(true);
    await server.stop();
  });

  test("trims only what it was told to, at any alignment", async () => {
    const server = await startServer(["memory", "4M"]);
    const client = await RawClient.open(server.socket);
    const expected = patternBytes(4 * MIB);
    await client.request({ type: WRITE, payload: expected });
    for (const [offset, length] of [
      [1, 1],
      [4095, 2],
      [5000, 10000],
      [MIB - 1, MIB + 2],
      [3 * MIB, 4096],
    ] as const) {
      await client.request({ type: TRIM, offset: BigInt(offset), length });
      expected.fill(0, offset, offset + length);
    }
    expect((await client.readAt(0n, 4 * MIB)).equals(expected)).toBe(true);
    await server.stop();
  });

  // AddressSanitizer has memory of its own, and locks none.
  test.skipIf(sanitizer)("allocates all memory at the start with allocator=malloc", async () => {
    const sparse = await startServer(["memory", "64M"]);
    const server = await startServer(["memory", "67108865", "allocator=malloc"]);
    const heldKib = residentKib(server.pid);
    expect(heldKib - residentKib(sparse.pid)).toBeGreaterThan(60 << 10);
    const client = await RawClient.open(server.socket);
    expect(await client.request({ type: WRITE, payload: patternBytes(4 * MIB) })).toBe(0);
    expect(await client.request({ type: TRIM, length: 2 * MIB })).toBe(0);
    expect((await client.readAt(0n, 2 * MIB)).equals(Buffer.alloc(2 * MIB))).toBe(true);
    expect(residentKib(server.pid)).toBeGreaterThan(heldKib - 1024);
    expect((await runOk(["nbdinfo", "--map", server.uri])).trim()).toMatch(
      /^0\s+67108865\s+0\s+data$/,
    );
    await Promise.all([server.stop(), sparse.stop()]);
  });

  test.skipIf(sanitizer)("locks its memory with allocator=malloc,mlock=true", async () => {
    const server = await startServer(["memory", "40K", "allocator=malloc,mlock=true"]);
    expect(readFileSync(`/proc/${server.pid}/status`, "utf8")).toMatch(/^VmLck:\s+40 kB$/m);
    const client = await RawClient.open(server.socket);
    expect(await client.request({ type: WRITE, payload: patternBytes(40 << 10) })).toBe(0);
    expect(await client.request({ type: WRITE_ZEROES, offset: 4096n, length: 8192 })).toBe(0);
    const due = patternBytes(40 << 10).fill(0, 4096, 4096 + 8192);
    expect((await client.readAt(0n, 40 << 10)).equals(due)).toBe(true);
    await server.stop();
  });

  test.each([
    [["9223372036854775807", "allocator=malloc"], "does not fit into memory"],
    [["1M", "allocator=zstd"], "nbdkit's, if named by its path, has it"],
    [["1M", "allocator=malloc,mlock=maybe"], "maybe"],
    [["1M", "allocator=mallocs"], "use sparse, malloc or malloc,mlock=true"],
  ])("%j is refused", async (words, why) => {
    expect(await refusalOf(["memory", ...words])).toContain(why);
  });
});
