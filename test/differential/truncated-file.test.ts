// A file that is truncated under the server: reads of what is no longer there fail, whatever their
// length and the way their data would have taken.

import { truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { MIB, patternBytes } from "../support/fixtures.js";
import { CMD, ERRNO } from "../support/protocol.js";
import {
  asyncnbd,
  debianPlugin,
  nbdkit,
  SHARED_MEMORY,
  startServer,
  temporaryDirectory,
} from "../support/server.js";
import { StrictClient, type Style } from "../support/strict-client.js";

const SIZE = 2 * MIB;
/** In the middle of a page, whose rest is zero to who has it mapped. */
const END = 70_000;
const LENGTHS = [1, 512, 4096, 8192, 16_384, 65_536, 131_072, MIB];

/** The file ends before, in the middle, or within the last page of these. */
const lost = LENGTHS.flatMap((length) =>
  [END, END - length + 1, 69_632, 73_728, MIB].map((offset) => ({ offset, length })),
).filter(({ offset, length }) => offset >= 0 && offset + length > END);
const kept = LENGTHS.filter((length) => length <= END).map((length) => ({
  ...{ offset: END - length, length },
}));

const read = ({ offset, length }: { offset: number; length: number }) => ({
  ...{ type: CMD.READ, offset: BigInt(offset), length },
});

const servers: [string, readonly string[], readonly string[], Style[]][] = [
  ["asyncnbd file", asyncnbd, ["file"], ["simple", "structured", "extended"]],
  ["asyncnbd async-file", asyncnbd, ["async-file"], ["simple", "structured", "extended"]],
  ["asyncnbd async-file, direct", asyncnbd, ["async-file", "direct=true"], ["structured"]],
  ["asyncnbd file behind a filter", asyncnbd, ["--filter=delay", "file"], ["structured"]],
  ["nbdkit's file plugin", asyncnbd, [debianPlugin("file")], ["simple", "structured", "extended"]],
  ["nbdkit file", nbdkit, ["file"], ["simple", "structured"]],
];

describe.each(servers)("%s", (_name, command, plugin, styles) => {
  const cases = styles.flatMap((style) =>
    plugin.includes("direct=true")
      ? [[style, tmpdir()] as const]
      : [[style, tmpdir()] as const, [style, SHARED_MEMORY] as const],
  );
  test.each(cases)(
    "answers EIO to reads beyond the end, %s replies, in %s",
    async (style, parent) => {
      const disk = join(temporaryDirectory(parent), "disk.img");
      // Zero at the end of what will be left, and where pages end: the last byte tells nothing.
      const content = patternBytes(SIZE);
      for (let page = 4096; page <= SIZE; page += 4096) content[page - 1] = 0;
      content.fill(0, END - 100, END);
      writeFileSync(disk, content);
      const options = plugin.filter((word) => word.startsWith("-"));
      const [name, ...more] = plugin.filter((word) => !word.startsWith("-")) as [string];
      const server = await startServer([name, disk, ...more], { command, options });
      const client = await StrictClient.connect(server.where, { style });
      // Twice: the second time, the page cache is known to have it.
      for (let i = 0; i < 2; i++)
        for (const reply of await client.requests(...[...lost, ...kept].map(read)))
          expect(reply.error).toBe(0);
      truncateSync(disk, END);
      for (const range of lost) {
        const [reply] = await client.requests(read(range));
        expect(reply?.error, `${range.length} bytes at ${range.offset}`).toBe(ERRNO.EIO);
      }
      for (const range of kept) {
        const [reply] = await client.requests(read(range));
        const due = content.subarray(range.offset, range.offset + range.length);
        expect(reply?.data?.equals(due), `${range.length} bytes at ${range.offset}`).toBe(true);
      }
      await client.disconnect();
      await server.stop();
    },
  );
});
