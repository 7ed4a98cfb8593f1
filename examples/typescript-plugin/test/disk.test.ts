// The disk behind a real server, used by real clients (nbdinfo and nbdcopy, of libnbd), and compared
// with a model of a disk.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { promisify } from "node:util";
import { checkModel, mount } from "asyncnbd/testing";
import { eachBlock } from "../src/blocks.js";
import disk from "../src/disk.js";

const run = promisify(execFile);
const SIZE_BYTES = 16 * 2 ** 20;
const LIMIT_BYTES = 4 * 2 ** 20;

const folder = await mkdtemp(join(tmpdir(), "my-disk-"));
const config = { size: SIZE_BYTES, limit: LIMIT_BYTES };
const mounted = await mount(disk, { config });
const { uri } = mounted;

after(async () => {
  await mounted.close();
  await rm(folder, { recursive: true });
});

test("clients see how large it is, and that several connections are the same disk", async () => {
  const { stdout } = await run("nbdinfo", ["--json", uri]);
  const [shown] = JSON.parse(stdout).exports;
  assert.equal(shown["export-size"], SIZE_BYTES);
  assert.equal(shown.can_multi_conn, true);
});

test("what is copied to it is read from it", async () => {
  const there = join(folder, "there.img");
  const back = join(folder, "back.img");
  await writeFile(there, randomBytes(LIMIT_BYTES / 2));
  await run("nbdcopy", [there, uri]);
  await run("nbdcopy", [uri, back]);
  const rest = Buffer.alloc(SIZE_BYTES - LIMIT_BYTES / 2);
  assert.ok((await readFile(back)).equals(Buffer.concat([await readFile(there), rest])));
});

test("a write that needs more memory than it may take fails", async () => {
  const large = join(folder, "large.img");
  await writeFile(large, randomBytes(LIMIT_BYTES + 1));
  await assert.rejects(run("nbdcopy", [large, uri]), /No space left on device/);
});

test("random requests find it as a disk should be", async () => {
  await checkModel(disk, { config: { size: 256 * 1024 + 1 }, cases: 30 });
});

test("a request is divided where blocks begin", () => {
  const parts = [...eachBlock(Buffer.alloc(10), 6, 4)];
  const numbers = parts.map(({ number, start, part }) => [number, start, part.length]);
  assert.deepEqual(numbers, [
    [1, 2, 2],
    [2, 0, 4],
    [3, 0, 4],
  ]);
});
