// "Metadata querying" and NBD_CMD_BLOCK_STATUS, rule by rule, against a real server.

import { closeSync, ftruncateSync, openSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { text, u32 } from "../support/bytes.js";
import { CHUNK, CMD, ERRNO, FLAG, OPT, REP } from "../support/protocol.js";
import { goData, RawClient } from "../support/raw-client.js";
import { startServer, temporaryDirectory, testPlugin } from "../support/server.js";
import { contextQueries } from "../support/strict-client.js";
import { ask, connected, errorOf, extentsOf, typesOf } from "../support/structured-client.js";

const { GO, STRUCTURED_REPLY, LIST_META_CONTEXT, SET_META_CONTEXT } = OPT;
const { ACK, META_CONTEXT, ERR_INVALID } = REP;
const { READ, BLOCK_STATUS } = CMD;
const { DF, REQ_ONE } = FLAG;
const { OFFSET_DATA } = CHUNK;
const { EIO, EINVAL, ENOSPC } = ERRNO;

const SIZE = 1 << 20;
const HOLE_AND_ZERO = 3;

describe("meta contexts", () => {
  test("need structured replies", async () => {
    const server = await startServer(["memory", "1M"]);
    const client = await RawClient.connect(server.socket);
    await client.greet();
    for (const option of [LIST_META_CONTEXT, SET_META_CONTEXT])
      expect(typesOf(await ask(client, option, contextQueries("")))).toEqual([ERR_INVALID]);
    await server.stop();
  });

  test.each([
    [[], true],
    [["base:"], true],
    [["base:allocation"], true],
    [["base:nosuch"], false],
    [["x-other:", "qemu:dirty-bitmap:x"], false],
    [["x-other:", "base:allocation"], true],
  ] as const)("a list for %j", async (names, isListed) => {
    const server = await startServer(["memory", "1M"]);
    const client = await RawClient.connect(server.socket);
    await client.greet();
    await ask(client, STRUCTURED_REPLY);
    const replies = await ask(client, LIST_META_CONTEXT, contextQueries("", ...names));
    expect(typesOf(replies)).toEqual(isListed ? [META_CONTEXT, ACK] : [ACK]);
    if (isListed) expect(replies[0]?.data.toString("utf8", 4)).toBe("base:allocation");
    await server.stop();
  });

  test.each([[[]], [["base:"]], [["x-other:allocation"]], [["base:allocatio"]]] as const)(
    "%j selects none, and then there is no block status",
    async (names) => {
      const server = await startServer(["memory", "1M"]);
      const { context, chunkOf } = await connected(server, { contexts: [...names] });
      expect(context).toBe(-1);
      expect(errorOf(await chunkOf({ type: BLOCK_STATUS, length: 512 })).error).toBe(EINVAL);
      await server.stop();
    },
  );

  test("of another export cannot be used", async () => {
    const server = await startServer(["memory", "1M"]);
    const { chunkOf } = await connected(server, { contextsOf: "another" });
    expect(errorOf(await chunkOf({ type: BLOCK_STATUS, length: 512 })).error).toBe(EINVAL);
    await server.stop();
  });

  test("are replaced by each new selection, even one that fails", async () => {
    const server = await startServer(["memory", "1M"]);
    for (const data of [contextQueries(""), Buffer.alloc(3)]) {
      const client = await RawClient.connect(server.socket);
      await client.greet();
      await ask(client, STRUCTURED_REPLY);
      await ask(client, SET_META_CONTEXT, contextQueries("", "base:allocation"));
      await ask(client, SET_META_CONTEXT, data);
      await ask(client, GO, goData(""));
      client.sendRequest({ type: BLOCK_STATUS, length: 512 });
      expect(errorOf(await client.readChunk()).error).toBe(EINVAL);
    }
    await server.stop();
  });

  const whole = contextQueries("name", "base:allocation");
  test.each([
    ["nothing at all", Buffer.alloc(0)],
    ["a name longer than the option", Buffer.concat([u32(500), Buffer.from("x")])],
    ["no number of queries", text("name")],
    ["fewer queries than it says", Buffer.concat([text(""), u32(2), text("base:allocation")])],
    ["a query longer than the option", whole.subarray(0, -1)],
    ["something behind the last query", Buffer.concat([whole, Buffer.alloc(1)])],
    ["a name that is no UTF-8", Buffer.concat([u32(1), Buffer.from([0xff]), u32(0)])],
    ["2^32-1 queries", Buffer.concat([text(""), u32(0xffffffff)])],
  ])("a malformed request is NBD_REP_ERR_INVALID: %s", async (_what, data) => {
    const server = await startServer(["memory", "1M"]);
    const client = await RawClient.connect(server.socket);
    await client.greet();
    await ask(client, STRUCTURED_REPLY);
    for (const option of [LIST_META_CONTEXT, SET_META_CONTEXT])
      expect(typesOf(await ask(client, option, data))).toEqual([ERR_INVALID]);
    await server.stop();
  });
});

describe("NBD_CMD_BLOCK_STATUS", () => {
  const DISKS: [string, () => string[]][] = [
    ["a C plugin", () => ["file", sparseFile()]],
    ["a plugin in TypeScript", () => [sparseScript()]],
  ];

  /** Data in the first 32 KiB of each 256, as in the other one. */
  function sparseFile(): string {
    const path = join(temporaryDirectory(), "sparse.img");
    const fd = openSync(path, "w");
    for (let at = 0; at < SIZE; at += 0x40000)
      writeSync(fd, Buffer.alloc(0x8000, 1), 0, 0x8000, at);
    ftruncateSync(fd, SIZE);
    closeSync(fd);
    return path;
  }

  function sparseScript(): string {
    const path = join(temporaryDirectory(), "sparse.ts");
    writeFileSync(
      path,
      `import { definePlugin } from "asyncnbd";
       export default definePlugin({
         name: "sparse",
         getSize: () => ${SIZE},
         pread() {},
         async *extents(_handle, count, offset) {
           for (let at = offset & ~0x3ffff; at < offset + count; at += 0x40000) {
             yield { offset: at, length: 0x8000, hole: false, zero: false };
             yield { offset: at + 0x8000, length: 0x38000, hole: true, zero: true };
           }
         },
       });`,
    );
    return path;
  }

  describe.each(DISKS)("of %s", (_name, plugin) => {
    test("covers the range without gaps and distinguishes data and holes", async () => {
      const server = await startServer(plugin());
      const { chunkOf, context } = await connected(server);
      const extents = extentsOf(await chunkOf({ type: BLOCK_STATUS, length: SIZE }), context);
      expect(extents).toEqual(
        [0, 1, 2, 3].flatMap(() => [
          [0x8000, 0],
          [0x38000, HOLE_AND_ZERO],
        ]),
      );
      await server.stop();
    });

    test("begins at its offset, and all but the last lie in the range", async () => {
      const server = await startServer(plugin());
      const { chunkOf, context } = await connected(server);
      const request = { type: BLOCK_STATUS, offset: 0x4000n, length: 0x5000 };
      const extents = extentsOf(await chunkOf(request), context);
      expect(extents[0]).toEqual([0x4000, 0]);
      expect(extents[1]?.[1]).toBe(HOLE_AND_ZERO);
      expect(extents).toHaveLength(2);
      await server.stop();
    });

    test("REQ_ONE: one extent, no longer than what was asked about", async () => {
      const server = await startServer(plugin());
      const { chunkOf, context } = await connected(server);
      for (const [offset, length, expected] of [
        [0x4000, 0x10000, [0x4000, 0]],
        [0x8000, 0x1000, [0x1000, HOLE_AND_ZERO]],
      ] as const) {
        const request = { type: BLOCK_STATUS, offset: BigInt(offset), length, flags: REQ_ONE };
        expect(extentsOf(await chunkOf(request), context)).toEqual([expected]);
      }
      await server.stop();
    });

    test("refuses ranges outside and unknown flags", async () => {
      const server = await startServer(plugin());
      const { chunkOf } = await connected(server);
      for (const request of [
        { type: BLOCK_STATUS, offset: BigInt(SIZE), length: 512 },
        { type: BLOCK_STATUS, offset: 512n, length: SIZE },
        { type: BLOCK_STATUS, length: 0 },
        { type: BLOCK_STATUS, length: 512, flags: DF },
      ])
        expect(errorOf(await chunkOf(request)).error).toBe(EINVAL);
      await server.stop();
    });
  });

  test("through filters is the plugin's, even behind a cache with nothing to write back", async () => {
    const behind = await startServer(["--filter=readonly", "memory", "1M"]);
    const one = await connected(behind);
    expect(extentsOf(await one.chunkOf({ type: BLOCK_STATUS, length: SIZE }), one.context)).toEqual(
      [[SIZE, HOLE_AND_ZERO]],
    );
    const cached = await startServer(["--filter=cache", "memory", "1M"]);
    const other = await connected(cached);
    expect(
      extentsOf(await other.chunkOf({ type: BLOCK_STATUS, length: SIZE }), other.context),
    ).toEqual([[SIZE, HOLE_AND_ZERO]]);
    await Promise.all([behind.stop(), cached.stop()]);
  });

  test("of an asynchronous plugin: at once, later, failing, and never", async () => {
    const REGION = 64 * 1024;
    const FAILS = 7;
    const NEVER = 10;
    const server = await startServer([testPlugin("asyncprobe"), "size=1M"], {
      options: ["--grace=0.3s"],
    });
    const { client, chunkOf, context } = await connected(server);
    for (const region of [0, 1]) {
      const request = { type: BLOCK_STATUS, offset: BigInt(region * REGION + 512), length: REGION };
      expect(extentsOf(await chunkOf(request), context)).toEqual([
        [REGION - 512, region === 0 ? 0 : HOLE_AND_ZERO],
        [REGION, region === 0 ? HOLE_AND_ZERO : 0],
      ]);
    }
    const failing = { type: BLOCK_STATUS, offset: BigInt(FAILS * REGION), length: 512 };
    expect(errorOf(await chunkOf(failing)).error).toBe(ENOSPC);
    client.sendRequest({ type: BLOCK_STATUS, offset: BigInt(NEVER * REGION), length: 512 });
    client.sendRequest({ type: READ, length: 1 });
    expect((await client.readChunk()).type).toBe(OFFSET_DATA);
    server.kill("SIGTERM");
    expect((await server.ended).stderr).toContain("block status");
  });

  test("of a plugin without extents is all data", async () => {
    const path = join(temporaryDirectory(), "plain.ts");
    writeFileSync(path, `export default { name: "plain", getSize: () => ${SIZE}, pread() {} };`);
    const server = await startServer([path]);
    const { chunkOf, context } = await connected(server);
    const chunk = await chunkOf({ type: BLOCK_STATUS, length: SIZE });
    expect(extentsOf(chunk, context)).toEqual([[SIZE, 0]]);
    await server.stop();
  });

  test.each([
    ["none", "[]"],
    ["a gap", "[{ offset: 0, length: 512 }, { offset: 1024, length: 512 }]"],
    ["one that comes too late", "[{ offset: 512, length: 512 }]"],
    ["one without a length", "[{ offset: 0 }]"],
  ])("a plugin that gives %s fails only the request", async (_what, list) => {
    const path = join(temporaryDirectory(), "wrong.ts");
    writeFileSync(
      path,
      `export default { name: "wrong", getSize: () => ${SIZE}, pread() {}, extents: () => ${list} };`,
    );
    const server = await startServer([path]);
    const { chunkOf, client } = await connected(server);
    expect(errorOf(await chunkOf({ type: BLOCK_STATUS, length: SIZE })).error).toBe(EIO);
    client.sendRequest({ type: READ, length: 512 });
    expect((await client.readChunk()).type).toBe(OFFSET_DATA);
    await server.stop();
  });

  test("of more than 4 GiB comes in parts that fit 32 bits", async () => {
    const server = await startServer(["memory", "1T"]);
    const { chunkOf, context } = await connected(server);
    const request = { type: BLOCK_STATUS, length: 0xffffffff };
    const [[length, state] = []] = extentsOf(await chunkOf(request), context);
    expect(state).toBe(HOLE_AND_ZERO);
    expect(length).toBeGreaterThan(2 ** 31);
    expect((length as number) % 65_536).toBe(0);
    await server.stop();
  });
});
