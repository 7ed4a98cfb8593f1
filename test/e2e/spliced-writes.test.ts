// Writes to a file whose payload goes there in the pages it came in: which sizes do, and that all of
// them arrive whole, in whatever pieces they come.

import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { CMD } from "../support/protocol.js";
import { encodeRequest, RawClient } from "../support/raw-client.js";
import { startServer, temporaryDirectory } from "../support/server.js";

const DISK_BYTES = 16 << 20;
const KIB = 1 << 10;
const TRIES = 50;

async function start(transport: "unix" | "tcp") {
  const file = join(temporaryDirectory(), "disk");
  const content = randomBytes(DISK_BYTES);
  writeFileSync(file, content);
  const server = await startServer(["file", file], { transport, options: ["-v"] });
  return { file, content, server, client: await RawClient.open(server.where) };
}

const splicedSizes = (log: string): number[] =>
  [...log.matchAll(/splice count=(\d+) offset=\d+: (\d+) written/g)].map(([, count, written]) => {
    expect(written).toBe(count);
    return Number(count);
  });

describe.each([
  ["unix", [64 * KIB, 256 * KIB], [60 * KIB, 257 * KIB, 4096 * KIB]],
  ["tcp", [128 * KIB, 512 * KIB, 4096 * KIB], [64 * KIB, 127 * KIB, 4097 * KIB]],
] as const)("over %s", (transport, spliced, copied) => {
  test("only sizes that gain by it are spliced, and all are written", async () => {
    const { file, content, server, client } = await start(transport);
    let offset = 0;
    const write = async (length: number) => {
      const payload = randomBytes(length);
      offset = (offset + 4711) % (DISK_BYTES - length);
      client.send(encodeRequest({ type: CMD.WRITE, offset: BigInt(offset), length }));
      await nextTurn();
      client.send(payload);
      expect(await client.readReply()).toMatchObject({ error: 0 });
      payload.copy(content, offset);
    };
    // A payload of which a part has come with the header is copied.
    const isSpliced = (length: number) => splicedSizes(server.stderr()).includes(length);
    for (const length of spliced)
      for (let left = TRIES; left > 0 && !isSpliced(length); left--) await write(length);
    for (const length of copied) await write(length);
    expect(readFileSync(file).equals(content)).toBe(true);
    expect([...new Set(splicedSizes(server.stderr()))]).toEqual(spliced);
  });

  test("a payload in many small pieces is written whole", async () => {
    const { file, content, client } = await start(transport);
    const length = spliced[spliced.length - 1] as number;
    const payload = randomBytes(length);
    client.socket.setNoDelay();
    client.send(encodeRequest({ type: CMD.WRITE, offset: 513n, length }));
    for (let at = 0; at < length; at += 1111) {
      client.send(payload.subarray(at, at + 1111));
      await nextTurn();
    }
    expect(await client.readReply()).toMatchObject({ error: 0 });
    payload.copy(content, 513);
    expect(readFileSync(file).equals(content)).toBe(true);
  });

  test("a client that leaves in the middle of a payload writes nothing, and harms nobody", async () => {
    const { file, content, server, client } = await start(transport);
    const length = spliced[spliced.length - 1] as number;
    for (let i = 0; i < 20; i++) {
      const other = await RawClient.open(server.where);
      other.send(encodeRequest({ type: CMD.WRITE, offset: 0n, length }));
      await nextTurn();
      other.send(randomBytes(length / 2));
      if (other.socket.writableLength > 0) await once(other.socket, "drain");
      other.socket.destroy();
    }
    const payload = randomBytes(length);
    expect(await client.request({ type: CMD.WRITE, offset: 8n, length, payload })).toBe(0);
    payload.copy(content, 8);
    expect(readFileSync(file).equals(content)).toBe(true);
  });
});
