// What filters keep of disks: once for each disk, whatever names clients ask for, for as long as the
// server lives.

import { mkdirSync, readdirSync, readlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { MIB } from "../support/fixtures.js";
import { CMD, OPT, REP } from "../support/protocol.js";
import { goData, RawClient } from "../support/raw-client.js";
import { type RunningServer, startServer, temporaryDirectory } from "../support/server.js";

const BLOCK_BYTES = 65536;

async function write(client: RawClient, offset: number, byte: number, length = 512): Promise<void> {
  const payload = Buffer.alloc(length, byte);
  expect(await client.request({ type: CMD.WRITE, offset: BigInt(offset), length, payload })).toBe(
    0,
  );
}

async function byteAt(client: RawClient, offset: number): Promise<number> {
  expect(await client.request({ type: CMD.READ, offset: BigInt(offset), length: 1 })).toBe(0);
  return (await client.read(1))[0] as number;
}

/** Files without a name, as filters keep. */
function namelessFiles({ pid }: RunningServer): number {
  const links = readdirSync(`/proc/${pid}/fd`).map((fd) => {
    try {
      return readlinkSync(`/proc/${pid}/fd/${fd}`);
    } catch {
      return ""; // closed meanwhile
    }
  });
  return links.filter((link) => link.endsWith("(deleted)")).length;
}

/** A disk of bytes 7 in TypeScript, of which each thread has its own. */
function disk(): string {
  const path = join(temporaryDirectory(), "disk.ts");
  writeFileSync(
    path,
    `import { definePlugin } from "asyncnbd";
     const bytes = Buffer.alloc(${MIB}, 7);
     export default definePlugin({
       name: "disk",
       getSize: () => bytes.length,
       pread: (_h, buf, offset) => { bytes.copy(buf, 0, offset); },
       pwrite: (_h, buf, offset) => { throw new Error("the disk was written to"); },
     });`,
  );
  return path;
}

/** A directory with disks a and b, of bytes that are their names. */
function directory(): string {
  const path = join(temporaryDirectory(), "disks");
  mkdirSync(path);
  for (const name of ["a", "b"]) writeFileSync(join(path, name), name.repeat(MIB));
  return path;
}

describe.each<[string, () => readonly string[]]>([
  ["a plugin in C", () => ["memory", "1M"]],
  ["a plugin in TypeScript", () => [disk()]],
])("cow in front of %s", (_name, plugin) => {
  test("keeps one file, even if clients invent 400 names", async () => {
    const server = await startServer(["--filter=cow", ...plugin()]);
    for (let i = 0; i < 400; i++) {
      const client = await RawClient.open(server.socket, `invented ${i}`);
      if (i % 100 === 0) await write(client, i * 512, 1);
      client.socket.destroy();
    }
    const client = await RawClient.open(server.socket);
    expect(await byteAt(client, 300 * 512)).toBe(1);
    expect(namelessFiles(server)).toBe(1);
    await server.stop();
  });

  test("shows the same data under all invented names", async () => {
    const server = await startServer(["--filter=cow", ...plugin()]);
    const one = await RawClient.open(server.socket, "one");
    const other = await RawClient.open(server.socket, "other");
    await write(one, BLOCK_BYTES, 3);
    expect(await byteAt(other, BLOCK_BYTES)).toBe(3);
    await write(other, BLOCK_BYTES, 4);
    expect(await byteAt(one, BLOCK_BYTES)).toBe(4);
    await server.stop();
  });

  test("keeps a client's writes until it comes again", async () => {
    const server = await startServer(["--filter=cow", ...plugin()]);
    for (let visit = 1; visit <= 3; visit++) {
      const client = await RawClient.connect(server.socket);
      await client.greet();
      client.sendOption(OPT.INFO, goData(""));
      while ((await client.readOptionReply()).type !== REP.ACK);
      client.sendOption(OPT.GO, goData(""));
      while ((await client.readOptionReply()).type !== REP.ACK);
      if (visit > 1) expect(await byteAt(client, BLOCK_BYTES)).toBe(visit - 1);
      await write(client, BLOCK_BYTES, visit);
      client.socket.end();
      await client.closed();
    }
    await server.stop();
  });
});

test("cow keeps a plugin's listed disks apart and writes to none of them", async () => {
  const server = await startServer(["--filter=cow", "file", `dir=${directory()}`]);
  const a = await RawClient.open(server.socket, "a");
  const b = await RawClient.open(server.socket, "b");
  await write(a, 0, 1);
  await write(b, BLOCK_BYTES, 2);
  const bytes = async (name: string) => {
    const client = await RawClient.open(server.socket, name);
    return [await byteAt(client, 0), await byteAt(client, BLOCK_BYTES)];
  };
  expect(await bytes("a")).toEqual([1, "a".charCodeAt(0)]);
  expect(await bytes("b")).toEqual(["b".charCodeAt(0), 2]);
  await server.stop();
});

test("worker threads share cow's data", async () => {
  const server = await startServer(["--filter=cow", disk()], { options: ["--workers=2"] });
  // Two that are here together are on different threads.
  const one = await RawClient.open(server.socket, "one");
  const other = await RawClient.open(server.socket, "other");
  await write(one, 0, 5);
  await write(other, BLOCK_BYTES, 6);
  for (const client of [one, other])
    expect([await byteAt(client, 0), await byteAt(client, BLOCK_BYTES)]).toEqual([5, 6]);
  expect(namelessFiles(server)).toBe(1);
  await server.stop();
});

test("worker threads share cache's data", async () => {
  const server = await startServer(["--filter=cache", disk(), "cache=unsafe"], {
    options: ["--workers=2"],
  });
  const one = await RawClient.open(server.socket, "one");
  const other = await RawClient.open(server.socket, "other");
  await write(one, 0, 5, BLOCK_BYTES);
  await write(other, BLOCK_BYTES, 6, BLOCK_BYTES);
  for (const client of [one, other])
    expect([await byteAt(client, 0), await byteAt(client, BLOCK_BYTES)]).toEqual([5, 6]);
  expect(namelessFiles(server)).toBe(1);
  await server.stop();
});

test("cache keeps one state for all names that clients invent", async () => {
  const server = await startServer(["--filter=cache", "memory", "1M", "cache-on-read=true"]);
  const one = await RawClient.open(server.socket, "one");
  const other = await RawClient.open(server.socket, "other");
  expect(await byteAt(other, 0)).toBe(0); // it is cached now
  await write(one, 0, 5);
  expect(await one.request({ type: CMD.FLUSH, offset: 0n, length: 0 })).toBe(0);
  expect(await byteAt(other, 0)).toBe(5);
  await server.stop();
});
