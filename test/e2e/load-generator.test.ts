// What the benchmarks measure with notices when a server does not keep its data.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, test } from "vitest";
import { apply, buildLoad } from "../../bench/support/load.mjs";
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
