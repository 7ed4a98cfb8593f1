// A plugin that counts who is inside its callbacks proves each thread model.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { CMD } from "../support/protocol.js";
import { encodeRequest, RawClient } from "../support/raw-client.js";
import { startServer, temporaryDirectory, testPlugin } from "../support/server.js";

const { WRITE, READ } = CMD;

interface Inside {
  readonly calls: number;
  readonly handles: number;
}

/** 2 connections with 12 slow reads each, under a thread model. Returns the most at once. */
async function overlap(model: number, options: readonly string[] = []): Promise<Inside> {
  const log = join(temporaryDirectory(), "log");
  const plugin = [testPlugin("probe"), `model=${model}`, "delay-ms=20", `log=${log}`];
  const server = await startServer(plugin, { options });
  const oneClient = async () => {
    const client = await RawClient.open(server.socket);
    await client.readTogether(12);
    await client.leave();
  };
  await Promise.all([oneClient(), oneClient()]);
  await server.stop();
  const match = /inside=(\d+) handles=(\d+)/.exec(readFileSync(log, "utf8"));
  return { calls: Number(match?.[1]), handles: Number(match?.[2]) };
}

describe("the thread model", () => {
  test("serialize_connections opens one export at a time", async () => {
    expect(await overlap(0)).toEqual({ calls: 1, handles: 1 });
  });

  test("serialize_all_requests makes one call at a time over all connections", async () => {
    expect(await overlap(1)).toEqual({ calls: 1, handles: 2 });
  });

  test("serialize_requests makes one call at a time per connection", async () => {
    expect(await overlap(2)).toEqual({ calls: 2, handles: 2 });
  });

  test("parallel overlaps the calls of one connection", async () => {
    const { calls } = await overlap(3);
    expect(calls).toBeGreaterThan(4);
    expect(calls).toBeLessThanOrEqual(24);
  });

  test("parallel overlaps at most --threads calls of one connection", async () => {
    const { calls } = await overlap(3, ["--threads=3"]);
    expect(calls).toBeGreaterThan(2);
    expect(calls).toBeLessThanOrEqual(6);
    expect(await overlap(3, ["--threads=1"])).toEqual({ calls: 2, handles: 2 });
  });
});

test("a quick request overtakes a slow one of the same connection", async () => {
  const plugin = [testPlugin("probe"), "delay-ms=1000", "quick-below=4096"];
  const server = await startServer(plugin);
  const client = await RawClient.connect(server.socket);
  await client.go();
  client.send(
    encodeRequest({ type: READ, offset: 8192n, length: 1, cookie: 1n }),
    encodeRequest({ type: READ, offset: 0n, length: 1, cookie: 2n }),
  );
  const order: bigint[] = [];
  for (let i = 0; i < 2; i++) {
    order.push((await client.readReply()).cookie);
    await client.read(1);
  }
  expect(order).toEqual([2n, 1n]);
  await server.stop();
});

test("slow writes keep their payloads apart while more arrive", async () => {
  const server = await startServer([testPlugin("probe"), "delay-ms=5"]);
  const client = await RawClient.connect(server.socket);
  await client.go();
  const blocks = Array.from({ length: 200 }, (_, i) => Buffer.alloc(4096, i));
  for (const [i, payload] of blocks.entries())
    client.sendRequest({ type: WRITE, offset: BigInt(i * 4096), payload });
  for (const _ of blocks) expect((await client.readReply()).error).toBe(0);
  client.sendRequest({ type: READ, length: 200 * 4096 });
  await client.readReply();
  expect((await client.read(200 * 4096)).equals(Buffer.concat(blocks))).toBe(true);
  await server.stop();
});
