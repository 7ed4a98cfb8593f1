// Clients that fall silent in the middle: they cost nobody but themselves, whatever serves them.

import { describe, expect, test } from "vitest";
import { type DiskKind, disks, readBlocks } from "../support/disks.js";
import { residentKib, threadCount } from "../support/process.js";
import { CMD } from "../support/protocol.js";
import { encodeRequest, RawClient } from "../support/raw-client.js";
import { eventually, type RunningServer, sanitizer, startServer } from "../support/server.js";

const { READ, WRITE } = CMD;
const MIB = 2 ** 20;
const SIZE_MIB = 64;

const KINDS: readonly DiskKind[] = [
  "memory",
  "file",
  "async-file",
  "delay-memory",
  "a plugin in TypeScript",
  "a plugin behind a filter, to write on",
];

const attacks: Readonly<Record<string, Buffer>> = {
  "send a write's header alone": encodeRequest({ type: WRITE, length: 64 * MIB }),
  "send a write in part": Buffer.concat([
    encodeRequest({ type: WRITE, length: 64 * MIB }),
    Buffer.alloc(2 * MIB),
  ]),
  "read no replies": Buffer.concat(
    Array.from({ length: 300 }, (_, i) =>
      encodeRequest({ type: READ, offset: BigInt(i % 64) * BigInt(MIB), length: MIB }),
    ),
  ),
};

/** It says so much and then neither reads nor writes. */
async function silence(server: RunningServer, bytes: Buffer): Promise<RawClient> {
  const client = await RawClient.open(server.where);
  client.socket.pause();
  client.send(bytes);
  return client;
}

const silenceMany = (server: RunningServer, count: number, bytes: Buffer) =>
  Promise.all(Array.from({ length: count }, () => silence(server, bytes)));

async function write(client: RawClient, data: Buffer, offset = 0n): Promise<void> {
  client.sendRequest({ type: WRITE, offset, payload: data });
  expect((await client.readReply()).error).toBe(0);
}

describe.each(KINDS)("with %s, clients that", (kind) => {
  test.each(Object.keys(attacks))("%s delay no other and take bounded memory", async (attack) => {
    const options = ["--max-in-flight=64M"];
    const server = await startServer(disks[kind](SIZE_MIB), { options });
    const established = await RawClient.open(server.where);
    // What the disk itself takes, and what the first requests set up.
    await write(established, Buffer.alloc(32 * MIB, 1));
    await readBlocks(established, 10);
    const before = residentKib(server.pid);
    let clients = 0;
    for (const more of [17, 83]) {
      await silenceMany(server, more, attacks[attack] as Buffer);
      clients += more;
      await readBlocks(established, 100);
      await readBlocks(await RawClient.open(server.where), 10);
    }
    // The budget, the reserve, and what belongs to each connection; a thread's stack and the
    // buffers that are kept besides.
    const boundMib = 64 + 64 + (clients * 128) / 1024 + 64;
    if (sanitizer === undefined)
      expect((residentKib(server.pid) - before) / 1024).toBeLessThan(boundMib);
  });
});

// A thread that has served one is kept for some seconds.
test("an asynchronous plugin takes requests without keeping a thread for each", async () => {
  const options = ["--max-in-flight=256M"];
  const server = await startServer(disks["async-file"](SIZE_MIB), { options });
  const established = await RawClient.open(server.where);
  await readBlocks(established, 10);
  const before = threadCount(server.pid);
  await silenceMany(server, 100, attacks["read no replies"] as Buffer);
  await readBlocks(established, 100);
  // Each client has one that waits for it, and one more where the machine made a call look slow; the
  // rest serves those that go on. Of requests, each client has hundreds.
  expect(threadCount(server.pid) - before).toBeLessThan(2 * 100 + 30);
});

test("large payloads of slow clients never deadlock over memory", async () => {
  const server = await startServer(disks.file(SIZE_MIB), { options: ["--max-in-flight=4M"] });
  const clients = await Promise.all(Array.from({ length: 6 }, () => RawClient.open(server.where)));
  const payload = Buffer.alloc(10 * MIB, 7);
  const half = payload.length / 2;
  for (const client of clients) {
    client.sendRequest({ type: WRITE, length: payload.length });
    client.send(payload.subarray(0, half));
  }
  for (const client of clients) client.send(payload.subarray(half));
  for (const client of clients) expect((await client.readReply()).error).toBe(0);
});

describe("a client is cut that", () => {
  test.each<[string, DiskKind, string, string]>([
    [
      "sends nothing more of its request",
      "memory",
      "send a write's header alone",
      "request did not arrive",
    ],
    [
      "sends nothing more of it, and holds memory",
      "file",
      "send a write in part",
      "request did not arrive",
    ],
    ["reads nothing of large replies", "memory", "read no replies", "replies were not read"],
    [
      "reads nothing of an asynchronous plugin",
      "delay-memory",
      "read no replies",
      "replies were not read",
    ],
    [
      "reads nothing of TypeScript",
      "a plugin in TypeScript",
      "read no replies",
      "replies were not read",
    ],
  ])("%s (%s)", async (_what, kind, attack, words) => {
    const options = ["--stall-timeout=1500ms"];
    const server = await startServer(disks[kind](SIZE_MIB), { options });
    const idle = await RawClient.open(server.where);
    const client = await silence(server, attacks[attack] as Buffer);
    await eventually("the line in the log", () =>
      server.stderr().includes(words) ? true : undefined,
    );
    expect(server.stderr()).not.toContain("other clients waited");
    client.socket.resume();
    await client.closed();
    await readBlocks(idle, 1); // which owes nothing
  });
});

test("a large write gets its memory once the clients that hold it are cut", async () => {
  const options = ["--max-in-flight=4M", "--stall-timeout=1s"];
  const server = await startServer(disks.file(SIZE_MIB), { options });
  await silenceMany(server, 3, attacks["send a write in part"] as Buffer);
  const client = await RawClient.open(server.where);
  const data = Buffer.alloc(16 * MIB, 9);
  await write(client, data, BigInt(MIB));
  client.sendRequest({ type: READ, offset: BigInt(MIB), length: data.length });
  expect((await client.readReply()).error).toBe(0);
  expect((await client.read(data.length)).equals(data)).toBe(true);
});

// All of them share what they send, and what the kernel has not taken of it costs nothing.
test("a large write beside a hundred stalled ones waits for one of them only", async () => {
  const server = await startServer(disks.file(SIZE_MIB), { options: ["--max-in-flight=256M"] });
  const client = await RawClient.open(server.where);
  const half = Buffer.alloc(32 * MIB);
  for (let i = 0; i < 100; i++) {
    const silent = await silence(server, encodeRequest({ type: WRITE, length: 2 * half.length }));
    silent.socket.write(half);
  }
  await write(client, Buffer.alloc(16 * MIB, 9));
}, 60_000);
