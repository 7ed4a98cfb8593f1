// asyncnbd-client: info, list, map, read and copy, against real servers and beside libnbd's tools.

import { spawnSync } from "node:child_process";
import { readFileSync, statSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { CLIENT_OPTIONS } from "../../src/cli/client/options.js";
import { type Finished, run } from "../support/command.js";
import { blocksOf, commandsOf } from "../support/documents.js";
import { MIB, patternBytes } from "../support/fixtures.js";
import { startNbdkit, startQemuNbd } from "../support/peers.js";
import { asyncnbd, startServer, temporaryDirectory } from "../support/server.js";

const script = fileURLToPath(new URL("../../dist/cli/client.js", import.meta.url));

const client = (...args: string[]): Promise<Finished> => run([process.execPath, script, ...args]);

async function ok(...args: string[]): Promise<string> {
  const finished = await client(...args);
  expect(finished).toMatchObject({ status: 0, stderr: "" });
  return finished.stdout;
}

/** A file with data, a long hole, and data again. */
function sparseFile(): { path: string; bytes: Buffer } {
  const path = join(temporaryDirectory(), "disk.img");
  const bytes = Buffer.alloc(8 * MIB);
  patternBytes(MIB).copy(bytes, 0);
  patternBytes(MIB).copy(bytes, 7 * MIB);
  writeFileSync(path, bytes.subarray(0, MIB));
  truncateSync(path, 8 * MIB);
  const end = bytes.subarray(7 * MIB);
  writeFileSync(path, Buffer.concat([bytes.subarray(0, 7 * MIB), end]), { flag: "r+" });
  return { path, bytes };
}

describe("info", () => {
  test("says what nbdinfo says", async () => {
    const { uri } = await startQemuNbd();
    const ours = JSON.parse(await ok("info", "--json", uri));
    const theirs = JSON.parse((await run(["nbdinfo", "--json", uri])).stdout);
    const [export_] = theirs.exports;
    const same = [
      ...["export-size", "contexts", "is_rotational", "is_read_only", "can_cache", "can_df"],
      ...["can_fast_zero", "can_flush", "can_fua", "can_multi_conn", "can_trim", "can_zero"],
      ...["block_size_minimum", "block_size_preferred", "block_size_maximum"],
    ];
    for (const key of same) {
      const expected = key.startsWith("block_size")
        ? (export_[key] ?? export_[`${key}`])
        : export_[key];
      expect([key, ours.exports[0][key]]).toEqual([key, expected]);
    }
  });

  test("and list are for people, too", async () => {
    const { uri } = await startServer(["memory", "3M"]);
    expect(await ok("info", uri)).toContain("export-size: 3145728 (3M)");
    expect(await ok("list", uri)).toBe("\n"); // the default export has no name
    expect(JSON.parse(await ok("list", "--json", uri)).exports).toEqual([
      { name: "", description: "" },
    ]);
  });
});

test("map prints what nbdinfo --map prints", async () => {
  const { uri } = await startNbdkit();
  const { path } = sparseFile();
  await ok("copy", path, uri);
  const lines = (text: string): string[][] =>
    text
      .trim()
      .split("\n")
      .map((line) => line.trim().split(/\s+/));
  const theirs = (await run(["nbdinfo", "--map", uri])).stdout;
  expect(lines(await ok("map", uri))).toEqual(lines(theirs));
  const json = JSON.parse(await ok("map", "--json", uri)) as { length: number }[];
  expect(json.reduce((sum, { length }) => sum + length, 0)).toBe(8 * MIB);
  const totals = JSON.parse(await ok("map", "--totals", "--json", uri)) as { size: number }[];
  expect(totals.reduce((sum, { size }) => sum + size, 0)).toBe(8 * MIB);
});

test("read prints bytes", async () => {
  const { path, bytes } = sparseFile();
  const { uri } = await startServer(["file", path]);
  const { stdout } = spawnSync(process.execPath, [script, "read", uri, "512", "2M"], {
    maxBuffer: 4 * MIB,
  });
  expect(stdout.equals(bytes.subarray(512, 512 + 2 * MIB))).toBe(true);
});

describe("copy", () => {
  test("from a file to a server, and back to a file with its holes", async () => {
    const { path, bytes } = sparseFile();
    const { uri } = await startServer(["memory", "8M"]);
    await ok("copy", "--flush", path, uri);
    const back = join(temporaryDirectory(), "back");
    writeFileSync(back, "what was there before");
    await ok("copy", uri, back);
    expect(readFileSync(back).equals(bytes)).toBe(true);
    expect(statSync(back).blocks * 512).toBeLessThan(4 * MIB);
  });

  test("from server to server zeroes what the destination had", async () => {
    const { path, bytes } = sparseFile();
    const from = await startServer(["file", path]);
    const to = await startNbdkit();
    const full = join(temporaryDirectory(), "full");
    writeFileSync(full, Buffer.alloc(8 * MIB, 9));
    await ok("copy", full, to.uri);
    await ok("copy", "--requests=8", "--request-size=64K", "--connections=2", from.uri, to.uri);
    const back = join(temporaryDirectory(), "back");
    expect((await run(["nbdcopy", to.uri, back])).status).toBe(0);
    expect(readFileSync(back).equals(bytes)).toBe(true);
  });

  test("--allocated leaves no holes", async () => {
    const { path } = sparseFile();
    const back = join(temporaryDirectory(), "back");
    await ok("copy", "--allocated", path, back);
    expect(statSync(back).blocks * 512).toBeGreaterThanOrEqual(8 * MIB);
  });

  test("through pipes", async () => {
    const { path, bytes } = sparseFile();
    const { uri } = await startServer(["memory", "8M"]);
    const command = `"$0" "$1" copy - "$3" <"$2" && "$0" "$1" copy "$3" - | cmp - "$2"`;
    const piped = await run(["sh", "-c", command, process.execPath, script, path, uri]);
    expect(piped).toMatchObject({ status: 0, stdout: "", stderr: "" });
    const back = join(temporaryDirectory(), "back");
    const toFile = `"$0" "$1" copy - "$3" <"$2"`;
    await run(["sh", "-c", toFile, process.execPath, script, path, back]);
    expect(readFileSync(back).equals(bytes)).toBe(true);
  });

  test("shows a bar where one is wanted", async () => {
    const { path } = sparseFile();
    const { uri } = await startServer(["memory", "8M"]);
    const { stderr } = await client("copy", "--progress", path, uri);
    expect(stderr).toMatch(/\[#{40}\] 100 % {2}8 MiB, \d+ MiB\/s *\n$/);
  });

  test("is refused if the destination is smaller", async () => {
    const { path } = sparseFile();
    const { uri } = await startServer(["memory", "1M"]);
    const finished = await client("copy", path, uri);
    expect(finished.status).toBe(1);
    expect(finished.stderr).toContain("which has 1048576 bytes");
  });
});

test.each([
  [["--nosuch"], "unknown option --nosuch"],
  [[], "no COMMAND was given"],
  [["inof", "x"], 'did you mean "info"?'],
  [["info"], "use asyncnbd-client info URI"],
  [["info", "disk.img"], "not a URI"],
  [["info", "nbd+unix:///?socket=/nonexistent"], "ENOENT"],
  [["copy", "--requests=0", "a", "b"], "from 1 to 99999"],
  [["copy", "--request-size=100", "a", "b"], "multiple of 512"],
  [["read", "nbd://x", "0", "many"], "not a size"],
  [["copy", "/nonexistent/file", "-"], "/nonexistent/file"],
])("%j is answered with one line", async (args, words) => {
  const { status, stderr } = await client(...args);
  expect(status).toBe(1);
  expect(stderr).toMatch(/^asyncnbd-client: error: .*\n$/);
  expect(stderr).toContain(words);
});

test("the documentation's commands do what they say", async () => {
  const directory = temporaryDirectory();
  const [main] = asyncnbd;
  symlinkSync(main as string, join(directory, "asyncnbd"));
  symlinkSync(script, join(directory, "asyncnbd-client"));
  const commands = blocksOf("docs/client-command.md").flatMap(commandsOf);
  expect(commands).toHaveLength(5);
  const lines = commands.join("\n").replace(/^asyncnbd -U/, "asyncnbd -P pid -U");
  const shell = `set -e; cd '${directory}'; PATH="$PWD:$PATH"; trap 'kill $(cat pid)' EXIT\n${lines}`;
  const { status, stdout, stderr } = await run(["bash", "-c", shell]);
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  expect(stdout).toContain("export-size: 67108864 (64M)");
  expect(stdout).toMatch(/^ +0 +1048576 +0 +data$/m);
  expect(statSync(join(directory, "disk.img")).size).toBe(64 * MIB);
});

test("--help has all options, and --version the version", async () => {
  const help = await ok("--help");
  for (const { name } of CLIENT_OPTIONS) expect(help).toContain(`--${name}`);
  expect(await ok("--version")).toMatch(/^asyncnbd-client \d+\.\d+\.\d+\n$/);
});
