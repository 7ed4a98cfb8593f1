// Requests and replies of all three styles, by a client that checks every rule: what they have in
// common, and what only extended headers can say.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { expectReads } from "../support/disk-client.js";
import { CMD, ERRNO, EXPORT_FLAG, FLAG, OPT, REP } from "../support/protocol.js";
import { RawClient } from "../support/raw-client.js";
import { startServer, temporaryDirectory, testPlugin } from "../support/server.js";
import {
  contextQueries,
  StrictClient,
  type StrictOptions,
  type StrictRequest,
} from "../support/strict-client.js";

const SIZE = 4 << 20;
const GIB = 2n ** 30n;

const allocation = { contexts: ["base:allocation"] };

/** The type of the one reply to an option. */
async function answerTo(client: RawClient, option: number, data?: Uint8Array): Promise<number> {
  client.sendOption(option, data);
  return (await client.readOptionReply()).type;
}

async function greeted(socket: string): Promise<RawClient> {
  const client = await RawClient.connect(socket);
  await client.greet();
  return client;
}

/** A generator that gives the same numbers in each run. */
function random(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

describe.each(["simple", "structured", "extended"] as const)("%s replies", (style) => {
  test("random reads and writes, many in flight, agree with a model", async () => {
    const server = await startServer(["memory", `${SIZE}`]);
    const client = await StrictClient.connect(server.socket, { style });
    const model = Buffer.alloc(SIZE);
    const next = random(7);
    for (let round = 0; round < 30; round++) {
      const writes: StrictRequest[] = [];
      const slice = SIZE / 8; // apart from each other, as their order is open
      for (let i = 0; i < 8; i++) {
        const length = 1 + next(100_000);
        const offset = i * slice + next(slice - length);
        if (next(4) === 0) {
          writes.push({ type: CMD.WRITE_ZEROES, offset: BigInt(offset), length });
          model.fill(0, offset, offset + length);
        } else {
          const payload = Buffer.alloc(length, 1 + next(255));
          writes.push({ type: CMD.WRITE, offset: BigInt(offset), payload });
          payload.copy(model, offset);
        }
      }
      for (const { error } of await client.requests(...writes)) expect(error).toBe(0);
      const reads = Array.from({ length: 8 }, () => {
        const length = 1 + next(300_000);
        const flags = style !== "simple" && next(3) === 0 ? FLAG.DF : 0;
        return { type: CMD.READ, offset: BigInt(next(SIZE - length)), length, flags };
      });
      await expectReads(client, reads, model);
    }
    await client.disconnect();
    await server.stop();
  });

  test("errors are answered, and the connection goes on", async () => {
    const server = await startServer(["memory", `${SIZE}`]);
    const client = await StrictClient.connect(server.socket, { style });
    const end = BigInt(SIZE);
    const payload = Buffer.alloc(512);
    const cases: [StrictRequest, number][] = [
      [{ type: CMD.READ, offset: end, length: 1 }, ERRNO.EINVAL],
      [{ type: CMD.READ, offset: end - 1n, length: 2 }, ERRNO.EINVAL],
      [{ type: CMD.READ, offset: 2n ** 64n - 1n, length: 1 }, ERRNO.EINVAL],
      [{ type: CMD.WRITE, offset: end, payload }, ERRNO.ENOSPC],
      [{ type: CMD.WRITE_ZEROES, offset: end, length: 512 }, ERRNO.ENOSPC],
      [{ type: CMD.TRIM, offset: end, length: 512 }, ERRNO.EINVAL],
      [{ type: CMD.READ, length: 512, flags: 1 << 15 }, ERRNO.EINVAL],
      [{ type: CMD.WRITE, payload, flags: FLAG.NO_HOLE }, ERRNO.EINVAL],
      [{ type: CMD.FLUSH, length: 1 }, ERRNO.EINVAL],
      [{ type: CMD.BLOCK_STATUS, length: 512 }, ERRNO.EINVAL], // nothing was selected
      [{ type: 12, length: 512 }, ERRNO.EINVAL],
      [{ type: CMD.READ, length: 0 }, ERRNO.EINVAL],
      [{ type: CMD.READ, length: 512 }, 0],
    ];
    const replies = await client.requests(...cases.map(([request]) => request));
    expect(replies.map(({ error }) => error)).toEqual(cases.map(([, error]) => error));
    await client.disconnect();
    await server.stop();
  });
});

/** What extents call zero must not be read: it is not zero there. */
const LYING = `
  const extents = [[0, 1000], [9000, 7000], [20000, 3000], [30000, 100000], [200000, 848576]];
  export default {
    name: "lying",
    getSize: () => 1 << 20,
    pread(_, buf, offset) { buf.fill(1); },
    *extents(_, count, offset) {
      let at = 0;
      for (const [start, length] of extents) {
        if (start > at) yield { offset: at, length: start - at, hole: false, zero: false };
        yield { offset: start, length, hole: true, zero: true };
        at = start + length;
      }
    },
  };`;

describe.each(["structured", "extended"] as const)("holes in %s replies", (style) => {
  const DISK = 16 << 20;
  const AT = 4 << 20;
  const sparse = async () => {
    const server = await startServer(["memory", `${DISK}`]);
    const client = await StrictClient.connect(server.socket, { style });
    const payload = Buffer.alloc(100_000, 5);
    await client.request({ type: CMD.WRITE, offset: BigInt(AT), payload });
    return { server, client, payload };
  };

  test("a read of nothing but zeroes is one hole", async () => {
    const { server, client } = await sparse();
    const reply = await client.read(9_000_001n, 1_000_000);
    expect(reply.holes).toEqual([{ offset: 9_000_001n, length: 1_000_000 }]);
    expect(reply.contentChunks).toBe(1);
    await server.stop();
  });

  test("only the data among holes is sent", async () => {
    const { server, client, payload } = await sparse();
    const reply = await client.read(0n, DISK);
    const holes = reply.holes.reduce((sum, { length }) => sum + length, 0);
    expect(holes).toBeGreaterThanOrEqual(DISK - (2 << 20)); // of which it allocates at once
    expect(reply.data.subarray(AT, AT + payload.length).equals(payload)).toBe(true);
    expect(reply.data.subarray(0, AT).every((byte) => byte === 0)).toBe(true);
    await server.stop();
  });

  test("NBD_CMD_FLAG_DF gets one chunk of data", async () => {
    const { server, client } = await sparse();
    const reply = await client.read(0n, DISK, FLAG.DF);
    expect(reply.holes).toEqual([]);
    expect(reply.contentChunks).toBe(1);
    await server.stop();
  });

  test("small reads are not divided", async () => {
    const { server, client } = await sparse();
    expect((await client.read(0n, 4096)).holes).toEqual([]);
    await server.stop();
  });

  test("of a TypeScript plugin have chunks in multiples of 512 bytes if possible", async () => {
    const path = join(temporaryDirectory(), "lying.mjs");
    writeFileSync(path, LYING);
    const server = await startServer([path]);
    const client = await StrictClient.connect(server.socket, { style });
    const reply = await client.read(0n, 1 << 20);
    expect(reply.holes).toEqual([
      { offset: 9216n, length: 6656 },
      { offset: 30208n, length: 99_328 },
      { offset: 200_192n, length: (1 << 20) - 200_192 },
    ]);
    for (const [at, byte] of [
      [0, 1],
      [9215, 1],
      [9216, 0],
      [15_871, 0],
      [15_872, 1],
    ] as const)
      expect(reply.data[at]).toBe(byte);
    await server.stop();
  });
});

/** Every second block is a hole; the fourth cannot be read, and others take their time. */
const BAD_SECTOR = `
  const BLOCK = 16384;
  export default {
    name: "bad",
    getSize: () => 1 << 20,
    async pread(_, buf, offset) {
      if (offset <= 6 * BLOCK && offset + buf.length > 6 * BLOCK)
        throw Object.assign(new Error("bad sector"), { code: "EIO", offset: 6 * BLOCK });
      await new Promise((resolve) => setTimeout(resolve, 50));
      buf.fill(7);
    },
    *extents(_, count, offset) {
      for (let at = offset - (offset % BLOCK); at < offset + count; at += BLOCK)
        yield { offset: at, length: BLOCK, hole: at % (2 * BLOCK) > 0, zero: at % (2 * BLOCK) > 0 };
    },
  };`;

describe.each(["structured", "extended"] as const)("errors in %s replies", (style) => {
  test("have an offset, with no data beyond it", async () => {
    const path = join(temporaryDirectory(), "bad.mjs");
    writeFileSync(path, BAD_SECTOR);
    const server = await startServer([path]);
    const client = await StrictClient.connect(server.socket, { style });
    const requests = Array.from({ length: 8 }, () => ({ type: CMD.READ, length: 1 << 18 }));
    for (const reply of await client.requests(...requests))
      expect(reply).toMatchObject({
        error: ERRNO.EIO,
        errorText: "bad sector",
        errorOffset: 6n * 16384n,
        contentChunks: 0,
      });
    const good = await client.read(8n * 16384n, 1 << 18);
    expect(good).toMatchObject({ error: 0, data: { length: 1 << 18 } });
    expect(good.data[0]).toBe(7);
    expect(good.data[16_384]).toBe(0);
    await server.stop();
  });

  test("of a C plugin follow the data read before them", async () => {
    const server = await startServer([testPlugin("wornout")]);
    const client = await StrictClient.connect(server.socket, { style });
    const reply = await client.read(0n, 1 << 18);
    expect(reply).toMatchObject({ error: ERRNO.EIO, errorOffset: 131_072n, contentChunks: 2 });
    expect(reply.errorText).toContain("worn out");
    expect(reply.data.subarray(0, 65_536).every((byte) => byte === 7)).toBe(true);
    await server.stop();
  });
});

describe("NBD_OPT_EXTENDED_HEADERS", () => {
  test("takes no data, and is acknowledged without structured replies", async () => {
    const server = await startServer(["memory", "1M"]);
    const client = await greeted(server.socket);
    const withData = await answerTo(client, OPT.EXTENDED_HEADERS, Buffer.alloc(1));
    expect(withData).toBe(REP.ERR_INVALID);
    expect(await answerTo(client, OPT.EXTENDED_HEADERS)).toBe(REP.ACK);
    await server.stop();
  });

  test("takes precedence over structured replies, before and after", async () => {
    const server = await startServer(["memory", "1M"]);
    const client = await greeted(server.socket);
    expect(await answerTo(client, OPT.STRUCTURED_REPLY)).toBe(REP.ACK);
    expect(await answerTo(client, OPT.EXTENDED_HEADERS)).toBe(REP.ACK);
    expect(await answerTo(client, OPT.STRUCTURED_REPLY)).toBe(REP.ERR_EXT_HEADER_REQD);
    await server.stop();
  });

  test("forbids NBD_OPT_EXPORT_NAME, which ends the connection", async () => {
    const server = await startServer(["memory", "1M"]);
    const client = await greeted(server.socket);
    expect(await answerTo(client, OPT.EXTENDED_HEADERS)).toBe(REP.ACK);
    client.sendOption(OPT.EXPORT_NAME);
    expect(await client.closed()).toEqual(Buffer.alloc(0));
    await server.stop();
  });

  test.each(["--no-eh", "--no-sr"])("is refused with %s", async (option) => {
    const server = await startServer(["memory", "1M"], { options: [option] });
    const client = await greeted(server.socket);
    expect(await answerTo(client, OPT.EXTENDED_HEADERS)).toBe(REP.ERR_UNSUP);
    await server.stop();
  });
});

describe("extended headers", () => {
  const connected = async (plugin: string[], options: StrictOptions = {}) => {
    const server = await startServer(plugin);
    const client = await StrictClient.connect(server.socket, { style: "extended", ...options });
    return { server, client };
  };

  test("ranges of more than 32 bits are zeroed, trimmed and cached", async () => {
    const { server, client } = await connected(["memory", "100G"]);
    const payload = Buffer.alloc(512, 1);
    for (const offset of [0n, 50n * GIB, 100n * GIB - 512n])
      expect((await client.request({ type: CMD.WRITE, offset, payload })).error).toBe(0);
    const type = CMD.WRITE_ZEROES;
    expect((await client.request({ type, offset: 1n, length: 100n * GIB - 1n })).error).toBe(0);
    for (const offset of [0n, 50n * GIB, 100n * GIB - 512n]) {
      const { data } = await client.read(offset, 512);
      expect(data.every((byte, i) => byte === (offset === 0n && i === 0 ? 1 : 0))).toBe(true);
    }
    expect((await client.request({ type: CMD.TRIM, length: 100n * GIB })).error).toBe(0);
    expect((await client.request({ type: CMD.TRIM, length: 100n * GIB + 1n })).error).toBe(
      ERRNO.EINVAL,
    );
    await server.stop();
  });

  test("extents have lengths of 64 bits", async () => {
    const { server, client } = await connected(["memory", "100G"], allocation);
    const id = client.contexts.get("base:allocation") as number;
    const request = { type: CMD.BLOCK_STATUS, length: 100n * GIB };
    const { statuses } = await client.request(request);
    expect(statuses.get(id)).toEqual([[100n * GIB, 3n]]);
    const one = await client.request({ ...request, length: 8n * GIB, flags: FLAG.REQ_ONE });
    expect(one.statuses.get(id)?.[0]?.[1]).toBe(3n);
    await server.stop();
  });

  test("a write without NBD_CMD_FLAG_PAYLOAD_LEN is refused, and nothing is skipped", async () => {
    const { server, client } = await connected(["memory", "1M"]);
    const [write, read] = await client.requests(
      { type: CMD.WRITE, length: 512 },
      { type: CMD.READ, length: 512 },
    );
    expect([write?.error, read?.error]).toEqual([ERRNO.EINVAL, 0]);
    await server.stop();
  });

  test("a payload that does not belong to its command is skipped, and refused", async () => {
    const { server, client } = await connected(["memory", "1M"]);
    const payload = Buffer.alloc(100_000);
    const flags = FLAG.PAYLOAD_LEN;
    const types = [CMD.READ, CMD.TRIM, CMD.FLUSH, CMD.BLOCK_STATUS, CMD.WRITE_ZEROES, 99];
    const replies = await client.requests(...types.map((type) => ({ type, payload, flags })), {
      type: CMD.READ,
      length: 512,
    });
    expect(replies.map(({ error }) => error)).toEqual([...Array(6).fill(ERRNO.EINVAL), 0]);
    await server.stop();
  });

  test("a payload that is too long ends the connection", async () => {
    const { server, client } = await connected(["memory", "1M"]);
    const request = { type: CMD.WRITE, flags: FLAG.PAYLOAD_LEN, length: 2n ** 40n };
    await expect(client.request(request)).rejects.toThrow("closed");
    await server.stop();
  });

  test("a compact request in their place ends the connection", async () => {
    const { server, client } = await connected(["memory", "1M"]);
    const request = { type: CMD.READ, length: 512, magic: 0x25609513 };
    await expect(client.request(request)).rejects.toThrow("closed");
    await server.stop();
  });

  test("a block status covers the contexts that its payload names", async () => {
    const { server, client } = await connected(["memory", "1M"], allocation);
    const [id = 0] = client.contexts.values();
    const type = CMD.BLOCK_STATUS;
    const range = { type, length: 1n << 20n };
    const reply = await client.request({ ...range, onlyContexts: [id] });
    expect(reply.statuses.get(id)).toEqual([[1n << 20n, 3n]]);
    for (const onlyContexts of [[], [id, id], [id + 1], [id, id + 1]])
      expect((await client.request({ ...range, onlyContexts })).error).toBe(ERRNO.EINVAL);
    const outside = { type, length: 1n << 21n, onlyContexts: [id] };
    expect((await client.request(outside)).error).toBe(ERRNO.EINVAL);
    for (const bytes of [1, 8, 11, 13, 4096]) {
      const odd = { type, payload: Buffer.alloc(bytes, 1), flags: FLAG.PAYLOAD_LEN };
      expect((await client.request(odd)).error).toBe(ERRNO.EINVAL);
    }
    expect((await client.request(range)).error).toBe(0);
    await server.stop();
  });

  test("status payloads are offered only if a context was selected", async () => {
    const server = await startServer(["memory", "1M"]);
    const flagsOf = async (options: StrictOptions) =>
      (await StrictClient.connect(server.socket, options)).flags & EXPORT_FLAG.BLOCK_STATUS_PAYLOAD;
    expect(await flagsOf({ style: "extended", ...allocation })).toBe(
      EXPORT_FLAG.BLOCK_STATUS_PAYLOAD,
    );
    expect(await flagsOf({ style: "extended" })).toBe(0);
    expect(await flagsOf({ style: "structured", ...allocation })).toBe(0);
    await server.stop();
  });

  test("meta contexts do not also need structured replies", async () => {
    const server = await startServer(["memory", "1M"]);
    const client = await greeted(server.socket);
    const query = contextQueries("", "base:allocation");
    expect(await answerTo(client, OPT.SET_META_CONTEXT, query)).toBe(REP.ERR_INVALID);
    expect(await answerTo(client, OPT.EXTENDED_HEADERS)).toBe(REP.ACK);
    expect(await answerTo(client, OPT.SET_META_CONTEXT, query)).toBe(REP.META_CONTEXT);
    await server.stop();
  });
});
