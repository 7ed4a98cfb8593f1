// Plugins that lend their memory, place writes in it, or name their file: what clients read is what
// lies there, however it is sent; what they write is there, however it came.

import { describe, expect, test } from "vitest";
import { apply, buildLoad } from "../../bench/support/load.mjs";
import { runOk } from "../support/command.js";
import { MIB } from "../support/fixtures.js";
import { CMD, ERRNO } from "../support/protocol.js";
import { encodeRequest, RawClient } from "../support/raw-client.js";
import { eventually, startServer, testPlugin } from "../support/server.js";
import { StrictClient, type Style } from "../support/strict-client.js";

const BLOCK = 4096;
const COPIED = 0x80;

/** What the plugin lender has from `offset` on. */
function expected(offset: number, length: number): Buffer {
  const data = Buffer.alloc(length);
  const copied = offset + length > 3 * MIB ? COPIED : 0;
  for (let i = 0; i < length; i++) {
    const at = offset + i;
    const byte = Math.floor(at / MIB) === 1 ? 0 : Math.floor(at / BLOCK) & 0x7f;
    data[i] = byte | copied;
  }
  return data;
}

function unmark(data: Buffer): void {
  for (let i = 0; i < data.length; i++) data[i] = (data[i] as number) & ~COPIED;
}

/** Small and large ones, in pages and out of them, lent and copied, with a hole in the middle. */
const RANGES: [offset: number, length: number][] = [
  [0, 1],
  [4095, 2],
  [5 * BLOCK, BLOCK],
  [3, 32 << 10],
  [BLOCK, 128 << 10],
  [777, 600_000],
  [MIB - BLOCK, 2 * BLOCK],
  [MIB - 65_536, MIB + 131_072],
  [MIB, MIB],
  [0, 3 * MIB],
  [3 * MIB - 1, 1],
  [3 * MIB - 1, 2],
  [0, 4 * MIB],
];

describe.each<Style>(["simple", "structured", "extended"])("%s replies", (style) => {
  test.each(["parallel", "serialize"])("of a plugin that is %s", async (model) => {
    const server = await startServer([testPlugin("lender"), `model=${model}`]);
    const client = await StrictClient.connect(server.socket, { style });
    const requests = RANGES.map(([offset, length]) => ({
      ...{ type: CMD.READ, offset: BigInt(offset), length },
    }));
    const replies = await client.requests(...requests);
    for (const [i, [offset, length]] of RANGES.entries()) {
      expect(replies[i]?.error).toBe(0);
      const data = replies[i]?.data as Buffer;
      const due = expected(offset, length);
      // Holes have no data, so neither the mark of a copy.
      if (style !== "simple" && offset + length > 3 * MIB) [data, due].forEach(unmark);
      expect(data.equals(due), `${length} bytes at ${offset}`).toBe(true);
    }
    await client.disconnect();
    await server.stop();
  });
});

test("nothing is lent with -D asyncnbd.reservations=0", async () => {
  const server = await startServer([testPlugin("lender"), "model=parallel"], {
    options: ["-D", "asyncnbd.reservations=0"],
  });
  const client = await RawClient.open(server.socket);
  for (const [offset, length] of RANGES) {
    expect(await client.request({ type: CMD.READ, offset: BigInt(offset), length })).toBe(0);
    const data = await client.read(length);
    expect(data.every((byte) => (byte & COPIED) !== 0)).toBe(true);
  }
  await server.stop();
});

test("a client that leaves during a large reply disturbs nobody", async () => {
  buildLoad();
  const server = await startServer(["memory", "64M"]);
  const load = { bytes: 4 * MIB, depth: 8, connections: 4 };
  await apply(server.socket, { ...load, readPercent: 0, sequential: true, count: 64 });
  const verified = apply(server.socket, {
    bytes: MIB,
    depth: 4,
    verify: true,
    readPercent: 60,
    seconds: 2,
  });
  for (let i = 0; i < 20; i++) await apply(server.socket, { ...load, count: 9 });
  expect((await verified).verified).toBeGreaterThan(0);
  await server.stop();
});

test("successive writes of all sizes land in their places", async () => {
  buildLoad();
  const server = await startServer(["memory", "64M"]);
  for (const bytes of [4096, 64 << 10, 128 << 10, 600 << 10, 3 * MIB])
    await apply(server.socket, { bytes, depth: 8, verify: true, readPercent: 50, seconds: 0.3 });
  await server.stop();
});

test("a client that leaves during a write leaves no data that looks like a hole", async () => {
  const server = await startServer(["memory", "8M"]);
  const leaving = await RawClient.open(server.socket);
  const payload = Buffer.alloc(300_000, 0x5a);
  leaving.send(encodeRequest({ type: CMD.WRITE, offset: 4096n, length: MIB }), payload);
  const script = `
import nbd, time
h = nbd.NBD(); h.add_meta_context("base:allocation"); h.connect_uri("${server.uri}")
size = h.get_size()
def holes():
    found = []
    def add(context, offset, entries, error):
        at = offset
        for length, flags in zip(entries[::2], entries[1::2]):
            if flags & nbd.STATE_ZERO: found.append((at, length))
            at += length
    h.block_status(size, 0, add)
    return found
while holes()[0][0] == 0: time.sleep(0.01)
for at, length in holes():
    assert h.pread(length, at) == bytes(length), (at, length)
assert h.pread(1000, 4096) == b"\\x5a" * 1000
`;
  const looking = await StrictClient.connect(server.socket);
  await eventually("the payload's beginning", async () => {
    const [reply] = await looking.requests({ type: CMD.READ, offset: 4096n, length: 1000 });
    return reply?.data?.every((byte) => byte === 0x5a) || undefined;
  });
  leaving.socket.destroy();
  await runOk(["/usr/bin/python3", "-c", script]);
  await server.stop();
});

test("memory that is trimmed while it is sent stays readable", async () => {
  const server = await startServer(["memory", "64M"]);
  const script = `
import nbd, threading
h = nbd.NBD(); h.connect_uri("${server.uri}")
t = nbd.NBD(); t.connect_uri("${server.uri}")
data = b"\\x5a" * (4 << 20)
for i in range(16): h.pwrite(data, i << 22)
for round in range(20):
    buffers = [nbd.Buffer(4 << 20) for _ in range(16)]
    cookies = [h.aio_pread(b, i << 22) for i, b in enumerate(buffers)]
    for i in range(16): t.zero(4 << 20, i << 22)
    while h.aio_in_flight() > 0: h.poll(-1)
    for c in cookies: assert h.aio_command_completed(c)
    for b in buffers:
        assert b.to_bytearray().translate(None, b"\\x00\\x5a") == b"" # no other bytes
    for i in range(16): h.pwrite(data, i << 22)
assert h.pread(4 << 20, 0) == data
`;
  await runOk(["/usr/bin/python3", "-c", script]);
  await server.stop();
});

describe("a plugin that names its file", () => {
  /** Writes 128 KiB of a byte each time, and reads; returns what the plugin was called for. */
  async function calls(parameters: string[], options: string[] = []): Promise<string[]> {
    const server = await startServer([testPlugin("filed"), ...parameters], { options });
    const client = await RawClient.open(server.socket);
    const range = { offset: 8192n, length: 131_072 };
    for (const [byte, flags] of [
      [1, 0], // after which a payload is received apart from its header
      [2, 0],
      [3, 1],
    ] as const) {
      const payload = Buffer.alloc(range.length, byte);
      expect(await client.request({ type: CMD.WRITE, flags, ...range, payload })).toBe(0);
    }
    expect(await client.request({ type: CMD.READ, ...range })).toBe(0);
    expect((await client.read(range.length)).equals(Buffer.alloc(range.length, 3))).toBe(true);
    expect(await client.request({ type: CMD.READ, offset: 8191n, length: 1 })).toBe(0);
    expect(await client.read(1)).toEqual(Buffer.alloc(1));
    const { stderr } = await server.stop();
    return [...stderr.matchAll(/error: (\w+)/g)].map(([, name]) => name as string);
  }

  test("is not called for large reads and writes", async () => {
    const called = await calls([]);
    if (called[0] === "pwrite") called.shift(); // the first one's payload may come with its header
    expect(called).toEqual(["flush", "pread"]);
  });

  test("is called for writes if its file is read-only, or a filter delays them", async () => {
    const asked = ["pwrite", "pwrite", "pwrite", "flush", "pread"];
    expect(await calls(["fd=append"])).toEqual(asked);
    expect(await calls(["rdelay=1ms", "wdelay=1ms"], ["--filter=delay"])).toEqual(asked);
  });

  test("is not called behind a filter that delays nothing", async () => {
    const called = await calls([], ["--filter=delay"]);
    expect(called.slice(-2)).toEqual(["flush", "pread"]);
    expect(called.length).toBeLessThanOrEqual(3); // the first one's payload may come with its header
  });

  test("gets only errors of its own requests", async () => {
    const server = await startServer([testPlugin("filed"), "fd=append", "pwrite=fail"]);
    const client = await RawClient.open(server.socket);
    for (const length of [512, 131_072, 131_072])
      expect(await client.request({ type: CMD.WRITE, payload: Buffer.alloc(length) })).toBe(
        ERRNO.EIO,
      );
    await server.stop();
  });
});
