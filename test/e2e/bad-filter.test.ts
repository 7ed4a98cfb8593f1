// A filter in C that is nobody's friend (test/plugins/badfilter.c): whatever it returns, asks for or
// keeps, only requests that go through its faults suffer, and only they.

import { writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import { CMD, ERRNO, INFO } from "../support/protocol.js";
import {
  debianPlugin,
  type RunningServer,
  startServer,
  temporaryDirectory,
  testPlugin,
} from "../support/server.js";
import { StrictClient, type StrictReply } from "../support/strict-client.js";

const { EIO, EINVAL } = ERRNO;
const REGION_BYTES = 64 << 10;
const SIZE_BYTES = 10 * REGION_BYTES;
const BLOCKING = 9;

/** What a request gets in each region but the last. */
const ERRORS = [0, EIO, EINVAL, EINVAL, 0, 0, 0, 0, EIO];
/** And one about extents. */
const EXTENTS_ERRORS = [0, EIO, EINVAL, EIO, EINVAL, 0, 0, 0, EIO];

/** With the flags that offer them. */
const CHANGES = [
  [CMD.WRITE_ZEROES, 64],
  [CMD.TRIM, 32],
] as const;

const nbdkitFilter = (name: string): string =>
  join(dirname(dirname(debianPlugin("memory"))), "filters", `nbdkit-${name}-filter.so`);

const BAD = `--filter=${testPlugin("badfilter")}`;

const connect = (server: RunningServer): Promise<StrictClient> =>
  StrictClient.connect(server.socket, { style: "structured", contexts: ["base:allocation"] });

const at = (region: number, more = 0): bigint => BigInt(region * REGION_BYTES + more);

const middleware = (): string => {
  const path = join(temporaryDirectory(), "middleware.mjs");
  writeFileSync(
    path,
    `import { defineMiddleware } from "asyncnbd/middleware";
     export default defineMiddleware({ name: "thin", open: async (next, info) => ({ ...(await next(info)) }) });`,
  );
  return path;
};

/** A disk in TypeScript. */
const script = (): string => {
  const path = join(temporaryDirectory(), "disk.mjs");
  writeFileSync(
    path,
    `const bytes = Buffer.alloc(${SIZE_BYTES});
     export default { name: "disk", getSize: () => bytes.length, canMultiConn: () => true,
       pread: (_h, buf, offset) => { bytes.copy(buf, 0, offset); },
       pwrite: (_h, buf, offset) => { buf.copy(bytes, offset); },
       zero: (_h, count, offset) => { bytes.fill(0, offset, offset + count); },
       extents: (_h, count, offset) => [{ offset, length: count }],
       trim() {}, flush() {} };`,
  );
  return path;
};

/** Writes and reads its half of what has no fault, until the others have ended. */
async function beFriendly(
  server: RunningServer,
  isOver: () => boolean,
  half: 0 | 1 = 0,
): Promise<number> {
  const client = await connect(server);
  let rounds = 0;
  do {
    const payload = Buffer.alloc(4096, ++rounds);
    const offset = at(0, (half * 8 + (rounds % 8)) * 4096);
    const [written] = await client.requests({ type: CMD.WRITE, offset, payload });
    expect(written?.error).toBe(0);
    const { error, data } = await client.read(offset, payload.length);
    expect([error, data.equals(payload)]).toEqual([0, true]);
  } while (!isOver());
  await client.disconnect();
  return rounds;
}

/** All regions but the last, whole, in every way there is. */
async function meetFaults(server: RunningServer, hasExtents = true): Promise<void> {
  const client = await connect(server);
  const regions = ERRORS.slice(1).map((_, i) => i + 1);
  const all = (type: number, more: object = {}): Promise<StrictReply[]> =>
    client.requests(
      ...regions.map((region) => ({ type, offset: at(region), length: REGION_BYTES, ...more })),
    );
  const errorsOf = (replies: readonly StrictReply[]): number[] => replies.map(({ error }) => error);
  const expected = ERRORS.slice(1);
  const payload = Buffer.alloc(REGION_BYTES, 9);
  expect(errorsOf(await all(CMD.WRITE, { payload }))).toEqual(expected);
  const reads = await all(CMD.READ);
  expect(errorsOf(reads)).toEqual(expected);
  for (const { error, data } of reads) if (error === 0) expect(data.equals(payload)).toBe(true);
  for (const [type, flag] of CHANGES)
    if ((client.flags & flag) !== 0) expect(errorsOf(await all(type))).toEqual(expected);
  const ofExtents = hasExtents ? EXTENTS_ERRORS : EXTENTS_ERRORS.map(() => 0);
  expect(errorsOf(await all(CMD.BLOCK_STATUS))).toEqual(ofExtents.slice(1));
  await client.disconnect();
}

describe("a filter that misbehaves", () => {
  test.each<[string, boolean, () => string[]]>([
    ["nbdkit's memory", true, () => [debianPlugin("memory"), `${SIZE_BYTES}`]],
    [
      "a plugin that answers later",
      false,
      () => [testPlugin("async-ramdisk"), `size=${SIZE_BYTES}`],
    ],
    ["a plugin in TypeScript", true, () => [script()]],
  ])("harms its own requests only, in front of %s", async (_, hasExtents, plugin) => {
    const server = await startServer([BAD, ...plugin()]);
    let isOver = false;
    const others = [beFriendly(server, () => isOver), beFriendly(server, () => isOver, 1)];
    for (let i = 0; i < 3; i++) await meetFaults(server, hasExtents);
    isOver = true;
    for (const rounds of await Promise.all(others)) expect(rounds).toBeGreaterThan(0);
    await server.stop();
  });

  // What is in front may ask for other parts, and know some answers itself: only that all is
  // answered, and data are right, is known.
  test.each<[string, () => string[]]>([
    ["blocksize", () => ["--filter=blocksize", "minblock=4K", "maxdata=16K"]],
    ["cache", () => ["--filter=cache", "cache-on-read=true"]],
    ["cacheextents", () => ["--filter=cacheextents"]],
    ["cow", () => ["--filter=cow"]],
    ["readahead and cache", () => ["--filter=readahead", "--filter=cache"]],
    ["retry", () => ["--filter=retry", "retries=1", "retry-delay=1ms"]],
    ["retry-request", () => ["--filter=retry-request", "retry-request-delay=1ms"]],
    ["truncate", () => ["--filter=truncate", "round-up=1M"]],
    ["nbdkit's cache", () => [`--filter=${nbdkitFilter("cache")}`]],
    ["nbdkit's extents and blocks", () => [`--filter=${nbdkitFilter("blocksize")}`, "minblock=4K"]],
    ["middleware", () => [`--filter=${middleware()}`]],
  ])("harms its own requests only, behind %s", async (_, front) => {
    const words = front();
    const filters = words.filter((word) => word.startsWith("--filter"));
    const parameters = words.filter((word) => !word.startsWith("--filter"));
    const server = await startServer([...filters, BAD, "memory", `${SIZE_BYTES}`, ...parameters]);
    const client = await connect(server);
    let isOver = false;
    const other = beFriendly(server, () => isOver);
    for (let i = 0; i < 3; i++) {
      const replies = await client.requests(
        ...Array.from({ length: BLOCKING - 1 }, (_, region) => region + 1).flatMap((region) =>
          [CMD.READ, CMD.WRITE_ZEROES, CMD.TRIM, CMD.BLOCK_STATUS].map((type) => ({
            type,
            offset: at(region, type * 4096),
            length: 4096,
          })),
        ),
      );
      for (const { error, data } of replies)
        if (error === 0) expect(data.every((byte) => byte === 0)).toBe(true);
    }
    isOver = true;
    await other;
    await client.disconnect();
    await server.stop();
  });

  test("delays only the clients that it blocks", async () => {
    const release = join(temporaryDirectory(), "release");
    const parameters = ["memory", `${SIZE_BYTES}`, `release=${release}`];
    const server = await startServer([BAD, ...parameters]);
    const blocked = await connect(server);
    const waits = blocked.requests(
      ...[CMD.READ, CMD.TRIM].map((type) => ({ type, offset: at(BLOCKING), length: 512 })),
    );
    let isOver = false;
    const other = beFriendly(server, () => isOver);
    await meetFaults(server);
    isOver = true;
    await other;
    writeFileSync(release, "");
    expect((await waits).map(({ error }) => error)).toEqual([0, 0]);
    await server.stop();
  });

  test.each([
    ["a size that no disk has", 1],
    ["answers that nobody knows", 3],
  ])("with %s still serves the disk", async (_, facts) => {
    for (const front of [[], ["--filter=cow"], ["--filter=cache"], ["--filter=blocksize"]]) {
      const plugin = ["memory", `${SIZE_BYTES}`, `facts=${facts}`];
      const server = await startServer([...front, BAD, ...plugin]);
      await beFriendly(server, () => true);
      await server.stop();
    }
  });

  test.each([
    ["a negative size", 2],
    ["negative answers", 4],
  ])("with %s cannot be opened", async (_, facts) => {
    const server = await startServer([BAD, "memory", `${SIZE_BYTES}`, `facts=${facts}`]);
    await expect(connect(server)).rejects.toThrow("NBD_OPT_GO");
    await server.stop();
  });

  test("with wrong block sizes refuses clients that ask for or need them", async () => {
    const plugin = ["memory", `${SIZE_BYTES}`, "facts=5"];
    const server = await startServer([BAD, ...plugin]);
    await beFriendly(server, () => true);
    const wanting = StrictClient.connect(server.socket, { infos: [INFO.BLOCK_SIZE] });
    await expect(wanting).rejects.toThrow("NBD_OPT_GO");
    await server.stop();
    const blocks = await startServer(["--filter=blocksize", BAD, ...plugin]);
    await expect(connect(blocks)).rejects.toThrow("NBD_OPT_GO");
    await blocks.stop();
  });
});
