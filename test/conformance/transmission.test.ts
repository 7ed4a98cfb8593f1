// Raw requests against a real server: the right error for each, and the connection goes on.

import { describe, expect, test } from "vitest";
import { residentKib } from "../support/process.js";
import { CMD, ERRNO, FLAG } from "../support/protocol.js";
import { encodeRequest, RawClient, type RequestFields } from "../support/raw-client.js";
import { type RunningServer, startServer } from "../support/server.js";

const { READ, WRITE, DISC, FLUSH, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS } = CMD;
const { FUA, NO_HOLE, DF, REQ_ONE, FAST_ZERO } = FLAG;
const { EPERM, EINVAL, ENOSPC } = ERRNO;

const SIZE = 1 << 20;

async function connected(server: RunningServer): Promise<RawClient> {
  const client = await RawClient.connect(server.socket);
  await client.go();
  return client;
}

describe("a request to a writable export", () => {
  const last = BigInt(SIZE);
  const cases: [string, RequestFields, number][] = [
    ["read past the end", { type: READ, offset: last - 1n, length: 2 }, EINVAL],
    ["read at the end", { type: READ, offset: last, length: 1 }, EINVAL],
    ["read at 2^64-1", { type: READ, offset: 2n ** 64n - 1n, length: 1 }, EINVAL],
    ["read that overflows", { type: READ, offset: 2n ** 64n - 512n, length: 1024 }, EINVAL],
    ["read of nothing", { type: READ, length: 0 }, EINVAL],
    ["read with a flag it has not", { type: READ, length: 1, flags: NO_HOLE }, EINVAL],
    ["read with DF unnegotiated", { type: READ, length: 1, flags: DF }, EINVAL],
    ["write past the end", { type: WRITE, offset: last, payload: Buffer.alloc(10) }, ENOSPC],
    [
      "write that overflows",
      { type: WRITE, offset: 2n ** 64n - 5n, payload: Buffer.alloc(10) },
      ENOSPC,
    ],
    ["write of nothing", { type: WRITE, length: 0 }, ENOSPC],
    [
      "write with an unknown flag",
      { type: WRITE, flags: 0x8000, payload: Buffer.alloc(99) },
      EINVAL,
    ],
    ["write with FUA", { type: WRITE, flags: FUA, payload: Buffer.alloc(512) }, 0],
    ["flush", { type: FLUSH }, 0],
    ["flush with FUA", { type: FLUSH, flags: FUA }, 0],
    ["flush with an offset", { type: FLUSH, offset: 1n }, EINVAL],
    ["flush with a length", { type: FLUSH, length: 1 }, EINVAL],
    ["trim", { type: TRIM, length: SIZE }, 0],
    ["trim past the end", { type: TRIM, offset: 1n, length: SIZE }, EINVAL],
    ["cache", { type: CACHE, length: SIZE }, 0],
    ["cache past the end", { type: CACHE, length: SIZE + 1 }, EINVAL],
    ["cache with FUA", { type: CACHE, length: 1, flags: FUA }, 0],
    ["write zeroes", { type: WRITE_ZEROES, length: SIZE }, 0],
    ["write zeroes, no hole", { type: WRITE_ZEROES, length: 4096, flags: NO_HOLE | FUA }, 0],
    ["write zeroes, fast", { type: WRITE_ZEROES, length: 4096, flags: FAST_ZERO }, 0],
    ["write zeroes past the end", { type: WRITE_ZEROES, length: SIZE + 1 }, ENOSPC],
    ["write zeroes of 4 GiB - 1", { type: WRITE_ZEROES, length: 0xffffffff }, ENOSPC],
    ["write zeroes with REQ_ONE", { type: WRITE_ZEROES, length: 1, flags: REQ_ONE }, EINVAL],
    ["block status unnegotiated", { type: BLOCK_STATUS, length: 512 }, EINVAL],
    ["resize, which there is not", { type: 8, length: 512 }, EINVAL],
    ["command 65535", { type: 65535, flags: 65535, length: 0xffffffff }, EINVAL],
  ];

  test("gets the right error, and the next one is served", async () => {
    const server = await startServer(["memory", String(SIZE)]);
    const client = await connected(server);
    for (const [what, fields, error] of cases)
      expect([what, await client.request({ ...fields, cookie: 42n })]).toEqual([what, error]);
    await server.stop();
  });

  test("is answered under its own cookie among many in one packet", async () => {
    const server = await startServer(["memory", String(SIZE)]);
    const client = await connected(server);
    const requests = cases.map(([, fields], index) => ({
      ...fields,
      cookie: BigInt(index) << 40n,
    }));
    client.send(...requests.flatMap((r) => [encodeRequest(r), r.payload ?? Buffer.alloc(0)]));
    const replies = new Map<bigint, number>();
    for (const _ of requests) {
      const { cookie, error } = await client.readReply();
      replies.set(cookie, error);
    }
    expect([...replies.values()].sort()).toEqual(cases.map(([, , error]) => error).sort());
    for (const [index, [what, , error]] of cases.entries())
      expect([what, replies.get(BigInt(index) << 40n)]).toEqual([what, error]);
    await server.stop();
  });
});

test("that modifies a read-only export gets EPERM", async () => {
  const server = await startServer(["memory", String(SIZE)], { options: ["-r"] });
  const client = await connected(server);
  for (const fields of [
    { type: WRITE, payload: Buffer.alloc(100) },
    { type: TRIM, length: 512 },
    { type: WRITE_ZEROES, length: 512 },
    { type: WRITE, offset: 2n ** 63n, payload: Buffer.alloc(1) },
  ])
    expect(await client.request(fields)).toBe(EPERM);
  expect(await client.request({ type: FLUSH })).toBe(0);
  await server.stop();
});

describe("the payload of a refused write", () => {
  test.each([1, 100_000, 5_000_000, 80 * 2 ** 20])("of %d bytes is skipped", async (bytes) => {
    const server = await startServer(["memory", "1G"], { options: ["-r"] });
    const client = await connected(server);
    expect(await client.request({ type: WRITE, payload: Buffer.alloc(bytes) })).toBe(EPERM);
    expect(await client.request({ type: FLUSH })).toBe(0);
    await server.stop();
  });

  test("is skipped in bounded memory if it is larger than any write can be", async () => {
    const server = await startServer(["memory", "1G"]);
    const client = await connected(server);
    const piece = Buffer.alloc(1 << 20);
    client.sendRequest({ type: WRITE, length: 300 * piece.length });
    for (let sent = 0; sent < 300; sent++)
      await new Promise<void>((resolve) => client.socket.write(piece, () => resolve()));
    expect((await client.readReply()).error).toBe(EINVAL);
    expect(await client.request({ type: FLUSH })).toBe(0);
    if (process.env.ASYNCNBD_TEST_SANITIZER === undefined)
      expect(residentKib(server.pid)).toBeLessThan(200 << 10);
    await server.stop();
  });
});

describe("large data", () => {
  test("of 64 MiB is written and read back; one byte more is EINVAL", async () => {
    const server = await startServer(["memory", "128M"]);
    const client = await connected(server);
    const data = Buffer.alloc(64 << 20);
    for (let i = 0; i < data.length; i += 4096) data.writeUInt32BE(i, i);
    expect(await client.request({ type: WRITE, offset: 4096n, payload: data })).toBe(0);
    client.sendRequest({ type: READ, offset: 4096n, length: data.length });
    expect((await client.readReply()).error).toBe(0);
    expect((await client.read(data.length)).equals(data)).toBe(true);
    expect(await client.request({ type: READ, length: (64 << 20) + 1 })).toBe(EINVAL);
    await server.stop();
  });

  test.each([1, 15, 28, 4095, 65536, 131072, 262143, 270336, 1_000_003])(
    "in writes of %d bytes, many in flight, is read back unchanged",
    async (bytes) => {
      const server = await startServer(["memory", "64M"]);
      const client = await connected(server);
      const count = 20;
      const payloads = Array.from({ length: count }, (_, i) => Buffer.alloc(bytes, i + 1));
      client.send(
        ...payloads.flatMap((payload, i) => [
          encodeRequest({ type: WRITE, offset: BigInt(i * bytes), payload, cookie: BigInt(i) }),
          payload,
        ]),
      );
      for (let i = 0; i < count; i++) expect((await client.readReply()).error).toBe(0);
      client.sendRequest({ type: READ, length: count * bytes });
      await client.readReply();
      expect((await client.read(count * bytes)).equals(Buffer.concat(payloads))).toBe(true);
      await server.stop();
    },
  );
});

describe("the end of a connection", () => {
  test("by NBD_CMD_DISC comes after all replies", async () => {
    const server = await startServer(["memory", String(SIZE)]);
    const client = await connected(server);
    const flushes = Array.from({ length: 50 }, () => encodeRequest({ type: FLUSH }));
    client.send(...flushes, encodeRequest({ type: DISC, cookie: 9n }));
    for (const _ of flushes) expect((await client.readReply()).error).toBe(0);
    expect(await client.closed()).toHaveLength(0);
    await server.stop();
  });

  test("by a wrong magic number comes without a reply and for that client only", async () => {
    const server = await startServer(["memory", String(SIZE)]);
    const bystander = await connected(server);
    const client = await connected(server);
    client.sendRequest({ type: FLUSH });
    client.sendRequest({ type: FLUSH, magic: 0x25609514 });
    expect((await client.readReply()).error).toBe(0);
    expect(await client.closed()).toHaveLength(0);
    expect(await bystander.request({ type: FLUSH })).toBe(0);
    await server.stop();
  });

  test("in the middle of a write leaves the disk as it was", async () => {
    const server = await startServer(["memory", String(SIZE)]);
    const client = await connected(server);
    client.sendRequest({ type: WRITE, length: 4096 });
    client.send(Buffer.alloc(1000, 1));
    client.socket.end();
    await client.closed();
    const other = await connected(server);
    other.sendRequest({ type: READ, length: 4096 });
    await other.readReply();
    expect((await other.read(4096)).equals(Buffer.alloc(4096))).toBe(true);
    await server.stop();
  });
});
