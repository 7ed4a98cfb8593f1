// Filters that show a part of a disk, or tell of its extents, and nbdkit's: clients see the same, and
// what is wrong ends with the same status.

import { describe, expect, test } from "vitest";
import { debianPlugin } from "../support/server.js";
import { expectSameOutput, type Files } from "./both.js";

const SECTOR = 512;
const memory = debianPlugin("memory");

/** A disk of 1 MiB, each sector of which says its number, but for what is put there. */
function disk(put: (bytes: Buffer) => void): Buffer {
  const bytes = Buffer.alloc(2 ** 20);
  for (let at = 0; at < bytes.length; at += SECTOR) bytes.writeUInt32BE(at / SECTOR, at + 8);
  bytes.fill(0, 0, 34 * SECTOR);
  put(bytes);
  return bytes;
}

function addEntry(bytes: Buffer, record: number, index: number, entry: readonly number[]): void {
  const [type = 0, start = 0, count = 0] = entry;
  const at = record * SECTOR + 446 + index * 16;
  bytes.writeUInt8(type, at + 4);
  bytes.writeUInt32LE(start, at + 8);
  bytes.writeUInt32LE(count, at + 12);
  bytes.writeUInt16LE(0xaa55, record * SECTOR + 510);
}

const mbr = disk((bytes) => {
  addEntry(bytes, 0, 0, [0x83, 100, 50]);
  addEntry(bytes, 0, 1, [0x05, 500, 500]);
  addEntry(bytes, 0, 3, [0x83, 2000, 100]);
  addEntry(bytes, 500, 0, [0x83, 10, 20]);
  addEntry(bytes, 500, 1, [0x05, 100, 100]);
  addEntry(bytes, 600, 0, [0x83, 10, 1000]);
  addEntry(bytes, 600, 1, [0x05, 50, 100]);
});

const gpt = disk((bytes) => {
  addEntry(bytes, 0, 0, [0xee, 1, 2047]);
  bytes.write("EFI PART", SECTOR);
  bytes.writeUInt32LE(4, SECTOR + 80);
  bytes.writeUInt32LE(128, SECTOR + 84);
  for (const [index, first, last] of [
    [0, 40, 99],
    [2, 100, 5000],
  ] as const) {
    const at = 2 * SECTOR + index * 128;
    bytes.writeUInt8(1, at);
    bytes.writeBigUInt64LE(BigInt(first), at + 32);
    bytes.writeBigUInt64LE(BigInt(last), at + 40);
  }
});

/** What a client sees, and what the disk has after it has written to it. nbdkit tells no block sizes
 * where the plugin has none. */
const LOOK = `
nbdinfo --no-content "$uri" 2>/dev/null | grep -v "uri:\\|$hidden"
nbdinfo --map "$uri" 2>/dev/null
nbdcopy "$uri" - 2>/dev/null | md5sum
qemu-io -f raw -c "write -P 9 100 700" -c "read -P 9 100 700" -c "discard 0 512" "$uri" 2>&1 |
  grep -v "ops;\\|qemu-io:\\|server reported:"
true
`;

const looking = (words: string): string => `
export hidden=${words.includes("blocksize") ? "nothing" : "block_size"}
server -U - ${words} --run '${LOOK}'
echo "status $?"
md5sum disk.img`;

const files: Files = { "mbr.img": mbr, "gpt.img": gpt, "zeroes.img": Buffer.alloc(2 ** 20) };

describe("a client sees the same of a partition", () => {
  test.each(
    ["mbr", "gpt", "zeroes"].flatMap((table) =>
      [1, 2, 3, 4, 5, 6, 7, 129].map((number): [string, number] => [table, number]),
    ),
  )("%s, number %i", async (table, number) => {
    const { stdout } = await expectSameOutput(
      `cp ${table}.img disk.img\n${looking(`--filter=partition file disk.img partition=${number}`)}`,
      files,
    );
    const isThere =
      (table === "mbr" && [1, 5].includes(number)) || (table === "gpt" && number === 1);
    expect(stdout.includes("export-size")).toBe(isThere);
  });
});

const LISTS: Readonly<Record<string, string>> = {
  usual: "0 64K\n1000000 1000\n512K 1K hole\n513K 1K zero\n514K 1K hole,zero\n515K 1K 0\n",
  numbers: "64K 512 1\n128K 512 2\n192K 512 3\n256K 512 7 and more\n320K 512 nonsense\n",
  empty: "",
  "nothing of it": "2M 1M\n",
  "zero lengths": "0 0\n4K 0 hole\n8K 1\n",
  "tabs and no newline": "\t4K\t8K  hole \n32K 1K",
  "an empty line": "0 4K\n\n8K 4K\n",
  "an overlap": "0 8K\n4K 8K\n",
  "no length": "4096\n",
  "no size": "4096 x\n",
  "a negative offset": "-1 4K\n",
};

describe("a client sees the extents of a list", () => {
  test.each(Object.keys(LISTS))("%s", async (name) => {
    await expectSameOutput(
      looking(`--filter=extentlist ${memory} 1M extentlist=list`).replace("md5sum disk.img", ""),
      { list: LISTS[name] ?? "" },
    );
  });

  test("that does not exist", async () => {
    await expectSameOutput(`server -U - --filter=extentlist null 1M --run true; echo $?`);
    await expectSameOutput(
      `server -U - --filter=extentlist null 1M extentlist=nowhere --run true; echo $?`,
    );
  });
});

const data = `data data='@1000 1*100 @70000 2*5000 @200000 3*10' size=300000`;

describe("a client sees the same behind", () => {
  test.each([
    ...[
      "minblock=4K",
      "minblock=64K maxdata=64K",
      "minblock=512 maxlen=8K",
      "maxdata=1000",
      "",
    ].map((parameters) => `--filter=blocksize ${data} ${parameters}`),
    `--filter=cacheextents ${data}`,
    `--filter=readahead ${data}`,
    `--filter=readahead --filter=cache ${data}`,
  ])("%s", async (words) => {
    const text = looking(words).replace("md5sum disk.img", "");
    // What cannot be read ahead of, the two say in words of their own.
    const { stdout } = await expectSameOutput(text.replace('"$uri" 2>&1', '"$uri" 2>/dev/null'));
    expect(stdout).toContain("status");
  });
});

describe("wrong parameters end with the same status", () => {
  test.each([
    "--filter=blocksize null minblock=0",
    "--filter=blocksize null minblock=1000",
    "--filter=blocksize null minblock=128K",
    "--filter=blocksize null minblock=4K maxdata=5000",
    "--filter=blocksize null minblock=4K maxlen=5000",
    "--filter=blocksize null maxdata=0",
    "--filter=blocksize null maxdata=4G",
    "--filter=blocksize null minblock=4K minblock=8K",
    "--filter=partition null",
    "--filter=partition null partition=0",
    "--filter=partition null partition=x",
    "--filter=partition null partition=1 partition=2",
    "--filter=extentlist null extentlist=a extentlist=b",
    "--filter=cacheextents null",
    "--filter=readahead null",
  ])("%s", async (words) => {
    await expectSameOutput(`server -U - ${words} --run true; echo "status $?"`);
  });
});
