// Clients that fall silent in the middle: they cost nobody but themselves, whatever serves them.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { residentKib, threadCount } from "../support/process.js";
import { encodeRequest, RawClient } from "../support/raw-client.js";
import {
  eventually,
  type RunningServer,
  sanitizer,
  startServer,
  temporaryDirectory,
} from "../support/server.js";

const READ = 0;
const WRITE = 1;
const MIB = 2 ** 20;
const ram = fileURLToPath(new URL("../../examples/ram.ts", import.meta.url));

function image(): string {
  const path = join(temporaryDirectory(), "image");
  writeFileSync(path, Buffer.alloc(64 * MIB));
  return path;
}

const backends: Readonly<Record<string, () => readonly string[]>> = {
  memory: () => ["memory", "64M"],
  file: () => ["file", image()],
  "async-file": () => ["async-file", image()],
  "delay-memory": () => ["delay-memory", "64M", "delay=1ms"],
  "a plugin in TypeScript": () => [ram, "size=64M"],
  "a filter": () => ["--filter=retry", "memory", "64M"],
};

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

async function readBlocks(client: RawClient, count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    client.sendRequest({ type: READ, offset: BigInt(512 * i), length: 512 });
    expect((await client.readReply()).error).toBe(0);
    await client.read(512);
  }
}

async function write(client: RawClient, data: Buffer, offset = 0n): Promise<void> {
  client.sendRequest({ type: WRITE, offset, payload: data });
  expect((await client.readReply()).error).toBe(0);
}

describe.each(Object.keys(backends))("with %s, clients that", (backend) => {
  test.each(Object.keys(attacks))(
    "%s hold up no other, and take bounded memory",
    async (attack) => {
      const options = ["--max-in-flight=64M"];
      const server = await startServer((backends[backend] as () => readonly string[])(), {
        options,
      });
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
    },
  );
});

// A thread that has served one is kept for some seconds.
test("an asynchronous plugin takes requests without keeping a thread for each", async () => {
  const options = ["--max-in-flight=256M"];
  const server = await startServer(["async-file", image()], { options });
  const established = await RawClient.open(server.where);
  await readBlocks(established, 10);
  const before = threadCount(server.pid);
  await silenceMany(server, 100, attacks["read no replies"] as Buffer);
  await readBlocks(established, 100);
  // Each client has one that waits for it; the rest serves those that go on.
  expect(threadCount(server.pid) - before).toBeLessThan(100 + 30);
});

test("large payloads of slow clients do not block each other for want of memory", async () => {
  const server = await startServer(["file", image()], { options: ["--max-in-flight=4M"] });
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
  test.each([
    ["sends nothing more of its request", "memory", "send a write's header alone", "sent the rest"],
    ["sends nothing more of it, and holds memory", "file", "send a write in part", "sent the rest"],
    ["reads nothing of large replies", "memory", "read no replies", "read its replies"],
    [
      "reads nothing of an asynchronous plugin",
      "delay-memory",
      "read no replies",
      "read its replies",
    ],
    [
      "reads nothing of TypeScript",
      "a plugin in TypeScript",
      "read no replies",
      "read its replies",
    ],
  ])("%s (%s)", async (_what, backend, attack, words) => {
    const options = ["--stall-timeout=1500ms"];
    const server = await startServer((backends[backend] as () => readonly string[])(), { options });
    const idle = await RawClient.open(server.where);
    const client = await silence(server, attacks[attack] as Buffer);
    await eventually("the line in the log", () =>
      server.stderr().includes(`has not ${words}`) ? true : undefined,
    );
    expect(server.stderr()).not.toContain("others wait");
    client.socket.resume();
    await client.closed();
    await readBlocks(idle, 1); // which owes nothing
  });
});

test("a large write gets its memory when those who hold it have been cut", async () => {
  const options = ["--max-in-flight=4M", "--stall-timeout=1s"];
  const server = await startServer(["file", image()], { options });
  await silenceMany(server, 3, attacks["send a write in part"] as Buffer);
  const client = await RawClient.open(server.where);
  const data = Buffer.alloc(16 * MIB, 9);
  await write(client, data, BigInt(MIB));
  client.sendRequest({ type: READ, offset: BigInt(MIB), length: data.length });
  expect((await client.readReply()).error).toBe(0);
  expect((await client.read(data.length)).equals(data)).toBe(true);
});
