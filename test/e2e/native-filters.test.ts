// Native filters and middleware in one chain, in any order, in front of plugins in C and TypeScript.

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { runOk } from "../support/command.js";
import { MIB } from "../support/fixtures.js";
import { CMD, ERRNO, EXPORT_FLAG } from "../support/protocol.js";
import { RawClient } from "../support/raw-client.js";
import { eventually, runAsyncnbd, startServer, temporaryDirectory } from "../support/server.js";

const { READ, WRITE } = CMD;

/** Middleware that says what it sees. */
const TOLD = `wrapRequests("told", (call) => {
  console.error("told: " + call.name + " offset=" + call.offset + " count=" + call.count);
  return call.next();
});`;

/** A module that serves a disk of bytes 7, behind middleware. */
function diskModule(front = "disk"): string {
  const path = join(temporaryDirectory(), "disk.ts");
  writeFileSync(
    path,
    `import { definePlugin } from "asyncnbd";
     import { blocksize, cacheextents, cow, delay, fua, limit, log, nocache, noextents, nozero, offset,
       partition, readahead, readonly, truncate, wrapRequests } from "asyncnbd/middleware";
     const bytes = Buffer.alloc(${MIB}, 7);
     const disk = definePlugin({
       name: "disk",
       getSize: () => bytes.length,
       exportDescription: () => "seven",
       blockSize: () => ({ minimum: 512, preferred: 4096, maximum: 65536 }),
       pread: (_h, buf, offset) => { bytes.copy(buf, 0, offset); },
       pwrite(_h, buf, offset) {
         console.error("the disk was written to");
         buf.copy(bytes, offset);
       },
     });
     const told = ${TOLD}
     export default ${front};`,
  );
  return path;
}

/** Middleware that sees reads, as a filter of the command line. */
function ownFilter(): string {
  const path = join(temporaryDirectory(), "told.ts");
  writeFileSync(
    path,
    `import { wrapRequests } from "asyncnbd/middleware";
     export default ${TOLD}`,
  );
  return path;
}

test("--threads=1 answers in order, even behind filters that wait without a thread", async () => {
  const args = ["--filter=delay", "memory", "1M", "rdelay=0", "wdelay=300ms"];
  const server = await startServer(args, { options: ["--threads=1"] });
  const client = await RawClient.connect(server.socket);
  await client.go();
  const count = 8;
  for (let i = 0; i < count; i++)
    client.sendRequest(
      i === 0
        ? { type: WRITE, cookie: 0n, payload: Buffer.alloc(512, 9) }
        : { type: READ, cookie: BigInt(i), length: 512 },
    );
  for (let i = 0; i < count; i++) {
    expect(await client.readReply()).toEqual({ error: 0, cookie: BigInt(i) });
    if (i > 0) expect((await client.read(512)).equals(Buffer.alloc(512, 9))).toBe(true);
  }
  await server.stop();
});

test.each(["cow", "cache"])("%s finds a relative TMPDIR from the background", async (filter) => {
  const cwd = temporaryDirectory();
  mkdirSync(join(cwd, "here"));
  const args = ["-U", "sock", "-P", "pid", `--filter=${filter}`, "memory", "1M"];
  const started = await runAsyncnbd(args, { cwd, env: { TMPDIR: "here" } });
  expect(started).toMatchObject({ status: 0, stderr: "" });
  const client = await RawClient.connect(join(cwd, "sock"));
  await client.go();
  expect(await client.request({ type: WRITE, payload: Buffer.alloc(512, 1) })).toBe(0);
  process.kill(Number(readFileSync(join(cwd, "pid"), "utf8")));
});

test("cow reports at the start that it has no place for blocks", async () => {
  const args = ["-f", "-U", "-", "--filter=cow", "memory", "1M", "--run", "true"];
  const { status, stderr } = await runAsyncnbd(args, { env: { TMPDIR: "/nonexistent" } });
  expect(stderr).toContain(
    "cannot make temporary files in /nonexistent: No such file or directory",
  );
  expect(status).toBe(1);
});

/** What clients meet first comes first. */
const FILTERS_OF_A_PART = [
  ...["fua", "nozero", "truncate", "offset", "limit", "nocache", "noextents"].map(
    (name) => `--filter=${name}`,
  ),
];
const PART = ["fuamode=discard", "zeromode=emulate", "truncate=8192", "offset=1024", "range=4096"];

const read = async (client: RawClient, offset = 0, length = 512): Promise<Buffer> => {
  expect(await client.request({ type: READ, offset: BigInt(offset), length })).toBe(0);
  return client.read(length);
};

const seven = Buffer.alloc(512, 7);

describe("readonly", () => {
  test.each<[string, (own: string) => readonly string[], number, boolean]>([
    ["in front of a plugin in C", () => ["--filter=readonly", "pattern", "1M"], 0, false],
    ["in front of one in TypeScript", () => ["--filter=readonly", diskModule()], 7, false],
    ["made by a module", () => [diskModule("readonly()(disk)")], 7, false],
    ["behind middleware, over C", (own) => [own, "--filter=readonly", "pattern", "1M"], 0, true],
    [
      "behind middleware, over TypeScript",
      (own) => [own, "--filter=readonly", diskModule()],
      7,
      true,
    ],
    ["in a module, behind middleware", () => [diskModule("told(readonly()(disk))")], 7, true],
    ["over middleware over C", (own) => ["--filter=readonly", own, "pattern", "1M"], 0, true],
    ["over middleware over TypeScript", (own) => ["--filter=readonly", own, diskModule()], 7, true],
    [
      "twice, with middleware between",
      (own) => ["--filter=readonly", own, "--filter=readonly", diskModule()],
      7,
      true,
    ],
  ])("%s lets reads through and refuses writes", async (_name, args, byte, isTold) => {
    const server = await startServer(args(`--filter=${ownFilter()}`));
    const client = await RawClient.connect(server.socket);
    const { flags } = await client.go();
    expect(flags & EXPORT_FLAG.READ_ONLY).toBe(EXPORT_FLAG.READ_ONLY);
    const data = await read(client, 8, 512);
    if (byte === 7) expect(data).toEqual(seven);
    else expect(data.readBigUInt64BE(0)).toBe(8n);
    const written = { type: WRITE, offset: 0n, length: 512, payload: seven };
    expect(await client.request(written)).toBe(ERRNO.EPERM); // EPERM
    if (isTold)
      await eventually("word of the read", () =>
        server.stderr().includes("told: pread offset=8 count=512") ? true : undefined,
      );
    await server.stop();
  });
});

describe("cow", () => {
  test.each<[string, (own: string) => readonly string[], number]>([
    ["over C", () => ["--filter=cow", "memory", "1M"], 0],
    ["over TypeScript", () => ["--filter=cow", diskModule()], 7],
    ["behind delay", () => ["--filter=delay", "--filter=cow", diskModule(), "rdelay=1ms"], 7],
    ["over delay", () => ["--filter=cow", "--filter=delay", "memory", "1M", "rdelay=1ms"], 0],
    ["over middleware over C", (own) => ["--filter=cow", own, "memory", "1M"], 0],
    ["over middleware over TypeScript", (own) => ["--filter=cow", own, diskModule()], 7],
    ["behind middleware, over C", (own) => [own, "--filter=cow", "memory", "1M"], 0],
    ["behind middleware, over TypeScript", (own) => [own, "--filter=cow", diskModule()], 7],
    [
      "behind delay and middleware, over delay",
      (own) => [
        "--filter=delay",
        own,
        "--filter=cow",
        "--filter=delay",
        diskModule(),
        "wdelay=1ms",
      ],
      7,
    ],
    ["in a module", () => [diskModule("cow()(disk)")], 7],
    ["in a module, over middleware", () => [diskModule("cow()(told(disk))")], 7],
    ["in a module, between", () => [diskModule("delay({ readMs: 1 })(told(cow()(disk)))")], 7],
    ["of a module and of the command", () => ["--filter=cow", diskModule("cow()(disk)")], 7],
  ])("%s keeps what all clients write, and the disk as it was", async (_name, args, byte) => {
    const server = await startServer(args(`--filter=${ownFilter()}`));
    const writer = await RawClient.open(server.socket);
    const reader = await RawClient.open(server.socket);
    const payload = Buffer.alloc(100_000, 9);
    expect(await writer.request({ type: WRITE, offset: 1000n, length: 100_000, payload })).toBe(0);
    expect(await writer.request({ type: CMD.FLUSH })).toBe(0);
    const expected = Buffer.concat([Buffer.alloc(1000, byte), payload, Buffer.alloc(1000, byte)]);
    expect((await read(reader, 0, 102_000)).equals(expected)).toBe(true);
    expect(await reader.request({ type: CMD.WRITE_ZEROES, offset: 2000n, length: 70_000 })).toBe(0);
    expect((await read(writer, 1999, 70_002)).equals(zeroesBetween(9, 70_000))).toBe(true);
    expect(server.stderr()).not.toContain("written to");
    await server.stop();
  });
});

const zeroesBetween = (byte: number, length: number): Buffer =>
  Buffer.concat([Buffer.of(byte), Buffer.alloc(length), Buffer.of(byte)]);

test("descriptions and block sizes come through a native filter", async () => {
  const server = await startServer(["--filter=readonly", diskModule()]);
  const info = await runOk(["nbdinfo", "--no-content", server.uri]);
  expect(info).toContain("description: seven");
  expect(info).toContain("block_size_minimum: 512");
  expect(info).toContain("block_size_maximum: 65536");
  await server.stop();
});

test("-v names the chain and where each part comes from", async () => {
  const own = ownFilter();
  const args = ["--filter=cow", `--filter=${own}`, "--filter=stats", "memory", "1M"];
  const server = await startServer([...args, "statsfile=/dev/null"], { options: ["-v"] });
  expect(server.stderr()).toMatch(
    new RegExp(
      `chain: filter cow \\(native, built in\\) > filter \\S+ \\(${own}\\) > ` +
        `filter stats \\(native, built in\\) > plugin memory \\(/\\S+/nbdkit-memory-plugin.so\\)`,
    ),
  );
  await server.stop();
});

test.each<[string, (own: string) => readonly string[]]>([
  ["in front of a plugin in TypeScript", () => [...FILTERS_OF_A_PART, diskModule(), ...PART]],
  ["with middleware between", (own) => [...FILTERS_OF_A_PART, own, diskModule(), ...PART]],
  [
    "made by a module",
    () => [
      diskModule(
        "fua({ mode: 'discard' })(nozero({ mode: 'emulate' })(truncate({ size: 8192 })(" +
          "offset({ offset: 1024, range: 4096 })(limit(2)(nocache()(noextents()(disk)))))))",
      ),
    ],
  ],
])("a part with a hole behind it, zeroed by writing, %s", async (_name, args) => {
  const server = await startServer(args(`--filter=${ownFilter()}`));
  const client = await RawClient.connect(server.socket);
  const { sizeBytes, flags } = await client.go();
  expect(sizeBytes).toBe(8192n);
  expect(flags & EXPORT_FLAG.SEND_CACHE).toBe(0); // no caching
  expect(await client.request({ type: CMD.WRITE_ZEROES, offset: 0n, length: 512 })).toBe(0);
  expect(server.stderr()).toContain("the disk was written to");
  const expected = Buffer.concat([Buffer.alloc(512), Buffer.alloc(3584, 7), Buffer.alloc(4096)]);
  expect((await read(client, 0, 8192)).equals(expected)).toBe(true);
  const behind = { type: WRITE, offset: 4096n, length: 512, payload: seven };
  expect(await client.request(behind)).toBe(ERRNO.ENOSPC); // ENOSPC
  await server.stop();
});

/** Has the disk of diskModule begin with an MBR, and shows one of its partitions. */
const MBR = `bytes.writeUInt8(0x83, 450), bytes.writeUInt32LE(8, 454), bytes.writeUInt32LE(16, 458),
  bytes.writeUInt16LE(0xaa55, 510)`;

test.each<[string, (own: string) => readonly string[]]>([
  ["in front of a plugin in TypeScript", () => ["--filter=blocksize", diskModule()]],
  ["over middleware", (own) => ["--filter=blocksize", own, diskModule()]],
  ["behind middleware", (own) => [own, "--filter=blocksize", diskModule()]],
  ["made by a module", () => [diskModule("cacheextents()(readahead()(blocksize()(disk)))")]],
])("parts of blocks can be read and written with blocksize %s", async (_name, args) => {
  const server = await startServer(args(`--filter=${ownFilter()}`));
  const client = await RawClient.connect(server.socket);
  await client.go();
  const payload = Buffer.alloc(70_001, 3);
  expect(await client.request({ type: WRITE, offset: 511n, length: 70_001, payload })).toBe(0);
  const expected = Buffer.concat([Buffer.alloc(510, 7), payload, Buffer.alloc(1000, 7)]);
  expect((await read(client, 1, expected.length)).equals(expected)).toBe(true);
  await server.stop();
});

test.each<[string, () => readonly string[]]>([
  [
    "in front of a plugin in TypeScript",
    () => ["--filter=partition", diskModule(`(${MBR}, disk)`), "partition=1"],
  ],
  ["made by a module", () => [diskModule(`(${MBR}, partition(1)(disk))`)]],
])("a partition is found %s", async (_name, args) => {
  const server = await startServer(args());
  const client = await RawClient.connect(server.socket);
  const { sizeBytes } = await client.go();
  expect(sizeBytes).toBe(8192n);
  expect(await read(client)).toEqual(seven);
  await server.stop();
});
