// Thread models of plugins in TypeScript: what the plugin itself sees of calls at once, under clients
// that send deep.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { passingFilter } from "../support/passing-filter.js";
import { CHUNK, CMD, OPT, REP } from "../support/protocol.js";
import { encodeRequest, goData, RawClient } from "../support/raw-client.js";
import { startServer, temporaryDirectory, testPlugin } from "../support/server.js";
import { contextQueries } from "../support/strict-client.js";

const { READ, WRITE, TRIM } = CMD;
const REQUESTS = 24;

/** A disk whose callbacks all take a moment and note when, in a file that worker threads share. */
function disk(model: string, more = ""): { path: string; log: string } {
  const directory = temporaryDirectory();
  const [path, log] = [join(directory, "disk.ts"), join(directory, "log")];
  writeFileSync(
    path,
    `import { definePlugin } from "asyncnbd";
     import { appendFileSync } from "node:fs";
     import { setTimeout } from "node:timers/promises";
     const note = (what) => appendFileSync(${JSON.stringify(log)}, what + "\\n");
     let handles = 0;
     async function inside(handle, call) {
       note("in " + handle);
       await setTimeout(3);
       note("out " + handle);
       return call;
     }
     const id = () => process.hrtime.bigint().toString() + "-" + ++handles;
     export default definePlugin({
       name: "disk", threadModel: "${model}",
       async open() { const handle = id(); await inside(handle); note("opened " + handle); return handle; },
       async close(handle) { await inside(handle); note("closed " + handle); },
       getSize: (handle) => inside(handle, 1 << 20),
       pread: (handle) => inside(handle),
       pwrite: (handle) => inside(handle),
       trim: (handle) => inside(handle),
       extents: (handle, count, offset) => inside(handle, [{ offset, length: count }]),
       ${more}
     });`,
  );
  return { path, log };
}

/** The most calls at once that the log has: over all handles, and of one. */
function overlapIn(log: string): { calls: number; ofOneHandle: number; handles: number } {
  const inside = new Map<string, number>();
  let [calls, ofOneHandle, handles, open, now] = [0, 0, 0, 0, 0];
  for (const line of readFileSync(log, "utf8").trim().split("\n")) {
    const [what, handle = ""] = line.split(" ");
    if (what === "opened") handles = Math.max(handles, ++open);
    if (what === "closed") open--;
    if (what !== "in" && what !== "out") continue;
    const step = what === "in" ? 1 : -1;
    now += step;
    inside.set(handle, (inside.get(handle) ?? 0) + step);
    calls = Math.max(calls, now);
    ofOneHandle = Math.max(ofOneHandle, inside.get(handle) ?? 0);
  }
  return { calls, ofOneHandle, handles };
}

/** Reads, writes and trims, all sent at once. */
async function deepClient(socket: string): Promise<void> {
  const client = await RawClient.open(socket);
  const requests = Array.from({ length: REQUESTS }, (_, i) => {
    const type = [READ, WRITE, TRIM][i % 3] as number;
    const payload = type === WRITE ? { payload: Buffer.alloc(512) } : { length: 512 };
    const fields = { type, offset: BigInt(512 * i), cookie: BigInt(i), ...payload };
    return Buffer.concat([encodeRequest(fields), payload.payload ?? Buffer.alloc(0)]);
  });
  client.send(...requests);
  for (const _ of requests) {
    const { error, cookie } = await client.readReply();
    expect(error).toBe(0);
    if (Number(cookie) % 3 === 0) await client.read(512);
  }
  await client.leave();
}

async function overlap(model: string, args: readonly string[] = [], options: string[] = []) {
  const { path, log } = disk(model);
  const server = await startServer(
    [...args.filter((arg) => arg.startsWith("-")), path].concat(
      args.filter((arg) => !arg.startsWith("-")),
    ),
    { options },
  );
  await Promise.all([1, 2, 3, 4].map(() => deepClient(server.socket)));
  await server.stop();
  return overlapIn(log);
}

const PLACES: [where: string, args: string[], options: string[]][] = [
  ["alone", [], []],
  ["on two threads", [], ["--workers=2"]],
  ["behind a filter that submits from timers", ["--filter=delay", "rdelay=2ms", "wdelay=2ms"], []],
  ["behind middleware", [passingFilter()], []],
  ["behind middleware and a native filter", [passingFilter(), "--filter=cow"], []],
  ["behind a filter, on two threads", ["--filter=delay", "rdelay=2ms"], ["--workers=2"]],
];

describe.each(PLACES)("%s", (_where, args, options) => {
  test("serialize_all_requests: no two calls at once, of any client", async () => {
    const { calls, handles } = await overlap("serialize_all_requests", args, options);
    expect({ calls }).toEqual({ calls: 1 });
    expect(handles).toBeGreaterThan(1);
  });

  test("serialize_requests: no two calls of one client at once, but of several", async () => {
    const { calls, ofOneHandle } = await overlap("serialize_requests", args, options);
    expect(ofOneHandle).toBe(1);
    expect(calls).toBeGreaterThan(1);
  });

  test("serialize_connections: one client's call at a time", async () => {
    const { calls, handles } = await overlap("serialize_connections", args, options);
    expect({ calls, handles }).toEqual({ calls: 1, handles: 1 });
  });
});

test("parallel: many calls of one client at once", async () => {
  const { ofOneHandle } = await overlap("parallel");
  expect(ofOneHandle).toBeGreaterThan(8);
});

test("a block status of several contexts makes one call at a time", async () => {
  const { path, log } = disk(
    "serialize_requests",
    'metaContexts: { "x-a:b": { status: (h, length, offset) => inside(h, [{ offset, length, flags: 1 }]) } },',
  );
  const server = await startServer([path]);
  const client = await RawClient.connect(server.socket);
  await client.greet();
  client.sendOption(OPT.STRUCTURED_REPLY);
  await client.readOptionReply();
  client.sendOption(OPT.SET_META_CONTEXT, contextQueries("", "base:allocation", "x-a:b"));
  while ((await client.readOptionReply()).type !== REP.ACK);
  client.sendOption(OPT.GO, goData(""));
  while ((await client.readOptionReply()).type !== REP.ACK);
  client.sendRequest({ type: CMD.BLOCK_STATUS, offset: 0n, length: 4096 });
  for (let i = 0; i < 2; i++) expect((await client.readChunk()).type).toBe(CHUNK.BLOCK_STATUS);
  await client.leave();
  await server.stop();
  expect(overlapIn(log).calls).toBe(1);
});

describe("a call that is never answered keeps its turn", () => {
  /** Of which the first block cannot be read. */
  function hanging(more = ""): string {
    const path = join(temporaryDirectory(), "hanging.ts");
    writeFileSync(
      path,
      `import { definePlugin } from "asyncnbd";
       export default definePlugin({
         name: "hanging", threadModel: "serialize_all_requests", ${more}
         getSize: () => 4096,
         pread: (handle, buf, offset) => offset === 0 ? new Promise(() => {}) : undefined,
       });`,
    );
    return path;
  }

  async function readsLast(client: RawClient): Promise<void> {
    expect(await client.request({ type: READ, offset: 2048n, length: 512 })).toBe(0);
    await client.read(512);
  }

  test.each([
    ["alone", []],
    ["behind middleware", ["--filter=stats", "statsfile=/dev/null"]],
    ["watched", ["--watch"]],
  ])("%s, until its client has gone", async (_where, args) => {
    const server = await startServer([hanging(), ...args], { options: ["--grace=100ms"] });
    const stuck = await RawClient.open(server.socket);
    stuck.sendRequest({ type: READ, offset: 0n, length: 512 });
    stuck.sendRequest({ type: READ, offset: 2048n, length: 512 });
    stuck.socket.destroy();
    const client = await RawClient.open(server.socket);
    await readsLast(client);
    client.socket.destroy();
    await server.stop();
  });

  test.each([
    ["alone", []],
    ["behind middleware", ["--filter=stats", "statsfile=/dev/null"]],
    ["watched", ["--watch"]],
  ])("%s, until its time is over", async (_where, args) => {
    const server = await startServer([hanging("requestTimeoutMs: 100,"), ...args]);
    const client = await RawClient.open(server.socket);
    expect(await client.request({ type: READ, offset: 0n, length: 512 })).not.toBe(0);
    await readsLast(client);
    client.socket.destroy();
    await server.stop();
  });
});

test("a C plugin that serializes a client's requests gets one at a time from a filter's timers", async () => {
  const log = join(temporaryDirectory(), "log");
  const server = await startServer([
    "--filter=delay",
    testPlugin("probe"),
    "model=2",
    "delay-ms=5",
    `log=${log}`,
    "rdelay=3ms",
  ]);
  const client = await RawClient.open(server.socket);
  await client.readTogether(REQUESTS);
  await client.leave();
  await server.stop();
  expect(readFileSync(log, "utf8")).toContain("inside=1 ");
});
