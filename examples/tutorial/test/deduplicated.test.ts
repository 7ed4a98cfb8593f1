// The deduplicating disk: random requests, power cuts, a full database, and a server that is killed.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { copyFileSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { promisify } from "node:util";
import { connect, exportInfo } from "asyncnbd/client";
import { checkModel, mount } from "asyncnbd/testing";
import { makeDisk } from "../src/deduplicated.js";

const run = promisify(execFile);
const folder = mkdtempSync(join(tmpdir(), "deduplicated-"));
after(() => rmSync(folder, { recursive: true }));

let names = 0;
const newName = (): string => join(folder, `${++names}`);

/** A disk on a file of its own; a copy of the file is what a power cut leaves. */
function makeCase() {
  const config = { file: newName() };
  return {
    plugin: makeDisk(),
    config,
    restart() {
      const copy = newName();
      for (const end of ["", "-wal"]) copyFileSync(config.file + end, copy + end);
      config.file = copy;
      return { plugin: makeDisk(), config: { file: copy } };
    },
  };
}

test("random requests and power cuts find a disk", async () => {
  await checkModel(makeCase, { config: { size: 100_000 }, cases: 50, seed: 1 });
});

test("random requests find a disk when the database becomes full", async () => {
  const config = { size: "1M", limit: "160k" };
  await checkModel(makeCase, { config, mayFail: ["ENOSPC"], cases: 20, seed: 1 });
});

test("equal blocks are stored once, and trimmed blocks are not stored", async () => {
  await using disk = await mount(makeDisk(), { config: { file: newName(), size: "1M" } });
  const described = async () => {
    await disk.flush();
    return (await exportInfo(disk.uri)).description;
  };
  const block = Buffer.alloc(4096, 1);
  await disk.write(0, Buffer.concat([block, block, Buffer.alloc(4096, 2)]));
  assert.equal(await described(), "3 blocks, of which 2 are different");
  await disk.write(0, block);
  assert.equal(await described(), "3 blocks, of which 2 are different");
  await disk.trim(8192, 4096);
  assert.equal(await described(), "2 blocks, of which 1 are different");
  const extents = [];
  for await (const { offset, isHole } of disk.blockStatus()) extents.push([offset, isHole]);
  assert.deepEqual(extents, [
    [0, false],
    [8192, true],
  ]);
  await disk.zero(0, 2 ** 20);
  assert.equal(await described(), "0 blocks, of which 0 are different");
});

/** Returns once clients can connect. */
async function serve(file: string) {
  const [socket, pid] = [newName(), newName()];
  const words = ["-U", socket, "-P", pid, "src/deduplicated.ts", `file=${file}`, "size=1M"];
  await run("node_modules/.bin/asyncnbd", words);
  const disk = await connect({ path: socket });
  return { disk, kill: () => process.kill(Number(readFileSync(pid, "utf8")), "SIGKILL") };
}

test("after a kill, what was flushed is there, and no write by halves", async () => {
  const file = newName();
  const first = await serve(file);
  await first.disk.write(0, Buffer.alloc(65536, 1));
  await first.disk.flush();
  await first.disk.write(0, Buffer.alloc(65536, 2));
  first.kill();
  const second = await serve(file);
  const found = await second.disk.read(0, 65536);
  second.kill();
  assert.ok(found.equals(Buffer.alloc(65536, 1)));
});
