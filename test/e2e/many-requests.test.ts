// Thousands of requests in flight, thousands of connections: all right, in bounded memory.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { residentKib, threadCount } from "../support/process.js";
import { CMD } from "../support/protocol.js";
import { encodeRequest, RawClient } from "../support/raw-client.js";
import { eventually, startServer, temporaryDirectory, testPlugin } from "../support/server.js";

const { READ, WRITE } = CMD;
const BLOCK = 4096;

const connect = async (socket: string): Promise<RawClient> => {
  const client = await RawClient.connect(socket);
  await client.go();
  return client;
};

/** Reads blocks, all at once, each of which begins with its own number. */
async function readNumbered(client: RawClient, count: number): Promise<void> {
  const requests = Array.from({ length: count }, (_, i) =>
    encodeRequest({
      type: READ,
      offset: BigInt(i % 1024) * BigInt(BLOCK),
      length: BLOCK,
      cookie: BigInt(i),
    }),
  );
  client.send(Buffer.concat(requests));
  const seen = new Set<bigint>();
  for (let i = 0; i < count; i++) {
    const { error, cookie } = await client.readReply();
    expect(error).toBe(0);
    const data = await client.read(BLOCK);
    if (data.readUInt32BE(0) !== Number(cookie % 1024n)) throw new Error("another's data");
    seen.add(cookie);
  }
  expect(seen.size).toBe(count);
}

async function writeNumbers(client: RawClient): Promise<void> {
  for (let i = 0; i < 1024; i++) {
    const payload = Buffer.alloc(BLOCK, 1);
    payload.writeUInt32BE(i, 0);
    const offset = BigInt(i * BLOCK);
    client.send(encodeRequest({ type: WRITE, offset, length: BLOCK, cookie: BigInt(i) }), payload);
  }
  for (let i = 0; i < 1024; i++) expect((await client.readReply()).error).toBe(0);
}

test("4096 requests in flight on one connection, 64 busy ones and 1000 idle ones beside it", async () => {
  const server = await startServer(["delay-memory", "64M", "delay=100ms"]);
  const client = await connect(server.socket);
  await writeNumbers(client);
  const idle = await Promise.all(Array.from({ length: 1000 }, () => connect(server.socket)));
  const busy = await Promise.all(Array.from({ length: 64 }, () => connect(server.socket)));
  const idleKib = residentKib(server.pid);
  await Promise.all([readNumbered(client, 4096), ...busy.map((one) => readNumbered(one, 256))]);
  await Promise.all([readNumbered(client, 4096), ...busy.map((one) => readNumbered(one, 256))]);
  // In flight are 20480 blocks, 80 MiB; a connection's own buffers are 260 KiB each way.
  const growthMib = (residentKib(server.pid) - idleKib) / 1024;
  expect(growthMib).toBeLessThan(256);
  // A thread a connection, and one more where the machine made a call look slow: none a request.
  expect(threadCount(server.pid)).toBeLessThan(2 * 1065);
  await Promise.all(idle.map((one) => readNumbered(one, 1)));
}, 60_000);

describe("memory", () => {
  // A read of 4 KiB counts with 512 bytes more.
  test.each([
    ["a connection", "--max-connection-in-flight=64k", 1, 14],
    // Besides, each connection has 128 KiB, and one request the reserve.
    ["all connections", "--max-in-flight=64k", 4, 4 * 28 + 14 + 1],
    ["each connection, though all may have more", "--max-connection-in-flight=64k", 4, 4 * 14],
  ])("for requests in flight is bounded on %s", async (_on, option, clients, most) => {
    const log = join(temporaryDirectory(), "log");
    const plugin = [testPlugin("asyncprobe"), `log=${log}`, "delay-ms=2"];
    const server = await startServer(plugin, { options: [option] });
    const readAll = async () => {
      const client = await connect(server.socket);
      const offset = 65536n; // the region whose requests are answered later
      const requests = Array.from({ length: 200 }, (_, i) =>
        encodeRequest({ type: READ, offset, length: BLOCK, cookie: BigInt(i) }),
      );
      client.send(Buffer.concat(requests));
      for (const _ of requests) {
        expect((await client.readReply()).error).toBe(0);
        await client.read(BLOCK);
      }
      await client.leave();
    };
    await Promise.all(Array.from({ length: clients }, readAll));
    await server.stop();
    const unanswered = Number(/most unanswered: (\d+)/.exec(readFileSync(log, "utf8"))?.[1]);
    expect(unanswered).toBeLessThanOrEqual(most);
    expect(unanswered).toBeGreaterThan(most / 2);
  });

  test("a request larger than the limit goes alone", async () => {
    const options = ["--max-in-flight=1k", "--max-connection-in-flight=1k"];
    const server = await startServer(["delay-memory", "64M"], { options });
    const client = await connect(server.socket);
    const payload = Buffer.alloc(1 << 20, 5);
    expect(await client.request({ type: WRITE, offset: 0n, length: 1 << 20, payload })).toBe(0);
    expect(await client.request({ type: READ, offset: 0n, length: 1 << 20 })).toBe(0);
    expect((await client.read(1 << 20)).equals(payload)).toBe(true);
  });

  test("a client that waits for memory and leaves is noticed", async () => {
    const options = ["--max-connection-in-flight=4k", "--grace=200ms"];
    const server = await startServer([testPlugin("asyncprobe")], { options });
    const client = await connect(server.socket);
    const never = BigInt(10 * 65536);
    client.sendRequest({ type: READ, offset: never, length: 4096, cookie: 1n });
    client.sendRequest({ type: READ, offset: never, length: 4096, cookie: 2n });
    await new Promise((resolve) => setTimeout(resolve, 100));
    client.socket.destroy();
    await eventually("the request to be given up", () =>
      server.stderr().includes("did not reply") ? true : undefined,
    );
  });

  test("does not grow for a client that never reads, and others are served", async () => {
    const options = ["--max-connection-in-flight=16M"];
    const server = await startServer(["delay-memory", "64M"], { options });
    const greedy = await connect(server.socket);
    greedy.socket.pause();
    const before = residentKib(server.pid);
    const ask = encodeRequest({ type: READ, offset: 0n, length: 1 << 20 });
    greedy.send(Buffer.concat(Array.from({ length: 2000 }, () => ask)));
    const other = await connect(server.socket);
    await writeNumbers(other);
    await readNumbered(other, 4096);
    expect((residentKib(server.pid) - before) / 1024).toBeLessThan(128);
  });
});

test("--max-connections makes further clients wait until one has gone", async () => {
  const server = await startServer(["memory", "1M"], { options: ["--max-connections=2"] });
  const first = await RawClient.open(server.socket);
  const second = await RawClient.open(server.socket);
  const waiting = await RawClient.connect(server.socket);
  let isGreeted = false;
  const greeted = waiting.greet().then(() => {
    isGreeted = true;
  });
  for (const client of [first, second])
    expect(await client.request({ type: CMD.FLUSH, offset: 0n, length: 0 })).toBe(0);
  expect(isGreeted).toBe(false);
  first.socket.destroy();
  await greeted;
  expect(await second.request({ type: CMD.FLUSH, offset: 0n, length: 0 })).toBe(0);
  await server.stop();
});
