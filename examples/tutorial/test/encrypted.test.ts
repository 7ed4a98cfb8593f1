// The encrypted disk over a disk in memory, and over a file, whose bytes are checked.

import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { checkModel, faults, mount } from "asyncnbd/testing";
import { encrypted } from "../src/encrypted.js";
import ram from "../src/ram.js";

const folder = await mkdtemp(join(tmpdir(), "encrypted-"));
const file = join(folder, "disk.img");
after(() => rm(folder, { recursive: true }));

await writeFile(file, "");
await truncate(file, 2 ** 20);
const open = (passphrase: string) =>
  mount("file", { config: { file }, filters: [encrypted(passphrase)] });

test("random requests find a disk", async () => {
  const filters = [encrypted("correct horse")];
  await checkModel(ram, { config: { size: "72k" }, filters, cases: 10, seed: 1 });
});

test("what is written is not in the file, and read when the disk is opened again", async () => {
  const sector = Buffer.alloc(4096, "secret ");
  {
    await using disk = await open("correct horse");
    await disk.write(0, sector);
    await disk.write(4096, sector);
  }
  const stored = await readFile(file);
  assert.ok(!stored.includes("secret"));
  assert.notDeepEqual(stored.subarray(4096, 8192), stored.subarray(8192, 12288));
  await using again = await open("correct horse");
  assert.ok((await again.read(4096, 4096)).equals(sector));
});

test("another passphrase is refused, and any other disk is left alone", async () => {
  const refused = { code: "NBD_REP_ERR_UNKNOWN" };
  await assert.rejects(open("battery staple"), refused);
  await writeFile(file, Buffer.alloc(2 ** 20, "a letter"));
  await assert.rejects(open("correct horse"), refused);
  assert.ok((await readFile(file)).equals(Buffer.alloc(2 ** 20, "a letter")));
});

test("clients get the error of the disk behind", async () => {
  const broken = faults();
  const filters = [encrypted("correct horse"), broken];
  await using disk = await mount(ram, { config: { size: "1M" }, filters });
  await disk.write(0, Buffer.alloc(4096, 1));
  broken.fail({ on: "write", error: "ENOSPC", times: 1 });
  await assert.rejects(disk.write(0, Buffer.alloc(4096, 2)), { code: "ENOSPC" });
  broken.fail({ on: "read", error: "EIO", times: 1 });
  await assert.rejects(disk.read(0, 4096), { code: "EIO" });
  assert.ok((await disk.read(0, 4096)).equals(Buffer.alloc(4096, 1)));
});
