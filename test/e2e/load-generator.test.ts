// What the benchmarks measure with notices when a server does not keep its data.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, test } from "vitest";
import { apply, buildLoad, EXIT_NOT_OFFERED } from "../../bench/support/load.mjs";
import { startServer, temporaryDirectory } from "../support/server.js";

beforeAll(buildLoad);

/** A disk of 4 MiB, whose every hundredth call is what `read` and `write` make of it. */
function disk({ read = "", write = "" }): string {
  const path = join(temporaryDirectory(), "disk.mjs");
  writeFileSync(
    path,
    `const disk = Buffer.alloc(4 << 20);
     let calls = 0;
     const isBad = () => ++calls % 100 === 0;
     export default {
       name: "disk",
       getSize: () => disk.length,
       pread(_handle, buf, offset) {
         disk.copy(buf, 0, Number(offset));
         if (isBad()) { ${read} }
       },
       pwrite(_handle, buf, offset) {
         if (isBad()) { ${write} }
         disk.set(buf, Number(offset));
       },
     };`,
  );
  return path;
}

const load = { bytes: 4096, depth: 32, connections: 2, readPercent: 50, verify: true, count: 6000 };

test.each([{}, { structured: true }])("correct data pass, %j", async (replies) => {
  const server = await startServer([disk({})]);
  const done = await apply(server.socket, { ...load, ...replies });
  expect(done.requests).toBe(load.count);
  expect(done.verified).toBeGreaterThan(load.count / 4);
  await server.stop();
});

test("requests are counted by connection", async () => {
  const server = await startServer(["memory", "4M"]);
  const done = await apply(server.socket, { ...load, verify: false, count: 1000 });
  expect(done.answered).toHaveLength(load.connections);
  expect(done.answered[0]! + done.answered[1]!).toBe(1000);
  await server.stop();
});

test.each([
  ["fua", "pwrite true"],
  ["trim", "trim false"],
  ["zero", "zero false"],
] as const)("%s is what the plugin is asked for", async (others, call) => {
  const directory = temporaryDirectory();
  const path = join(directory, "disk.mjs");
  const calls = join(directory, "calls");
  writeFileSync(
    path,
    `import { appendFileSync } from "node:fs";
     const note = (what, flags) => appendFileSync(${JSON.stringify(calls)}, what + " " + flags.fua + "\\n");
     export default {
       name: "disk",
       getSize: () => 1 << 20,
       pread() {},
       canFua: () => "native",
       pwrite(_handle, _buf, _offset, flags) { note("pwrite", flags); },
       trim(_handle, _count, _offset, flags) { note("trim", flags); },
       zero(_handle, _count, _offset, flags) { note("zero", flags); },
     };`,
  );
  const server = await startServer([path]);
  await apply(server.socket, { bytes: 4096, depth: 4, readPercent: 0, others, count: 100 });
  expect(readFileSync(calls, "utf8")).toBe(`${call}\n`.repeat(100));
  await server.stop();
});

test("a server that does not offer a command is told from one that fails", async () => {
  const server = await startServer([disk({})]);
  const trims = apply(server.socket, { bytes: 4096, readPercent: 0, others: "trim", count: 1 });
  await expect(trims).rejects.toMatchObject({ code: EXIT_NOT_OFFERED });
  await server.stop();
});

test.each([
  { bare: "unix", bytes: 4096, depth: 1 },
  { bare: "unix", bytes: 1 << 20, depth: 4, readPercent: 50 },
  { bare: "tcp", bytes: 128 << 10, depth: 16, readPercent: 0, connections: 3 },
  { bare: "tcp", bytes: 64 << 10, depth: 32, connections: 2, readPercent: 0, others: "trim" },
] as const)("two processes without a server exchange what a load asks for, %j", async (ends) => {
  const done = await apply(undefined, { ...ends, warmUpSeconds: 0, seconds: 0.1 });
  expect(done.requests).toBeGreaterThan(0);
});

test.each([
  ["a byte that changed", { read: "buf[7] ^= 1;" }],
  ["a block from elsewhere", { read: "disk.copy(buf, 0, (Number(offset) + 4096) % disk.length);" }],
  ["a write that was lost", { write: "return;" }],
  ["a write that went elsewhere", { write: "offset = (Number(offset) + 4096) % disk.length;" }],
])("%s is detected", async (_what, fault) => {
  const server = await startServer([disk(fault)]);
  await expect(apply(server.socket, load)).rejects.toThrow(/at offset \d+/);
  await server.stop();
});
