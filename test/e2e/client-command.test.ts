// asyncnbd-client: info, list, map, read and copy, against real servers and beside libnbd's tools.

import { spawnSync } from "node:child_process";
import {
  linkSync,
  readFileSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { CLIENT_OPTIONS } from "../../src/cli/client/options.js";
import { deviceNumbers } from "../../src/cli/client/places.js";
import { joined, u32 } from "../support/bytes.js";
import { type Finished, run } from "../support/command.js";
import { blocksOf, commandsOf } from "../support/documents.js";
import { MIB, patternBytes } from "../support/fixtures.js";
import { startNbdkit, startQemuNbd } from "../support/peers.js";
import { OPT, REP } from "../support/protocol.js";
import { asyncnbd, startServer, temporaryDirectory } from "../support/server.js";
import { optionReply, startWrongServer } from "../support/wrong-server.js";

/** A command of bash in which `client` is the client, and $1 and so on are the arguments. */
const shell = (command: string, ...args: string[]): Promise<Finished> =>
  run([...["bash", "-c", `client() { "$node" "$script" "$@"; }; ${command}`, "bash", ...args]], {
    env: { ...process.env, node: process.execPath, script },
  });

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
  test("reports what nbdinfo reports", async () => {
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

  test("and list also print text for people", async () => {
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

  test("from server to server replaces the destination's data with zeroes", async () => {
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

  test("shows a progress bar on request", async () => {
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

describe("copy is refused, and changes nothing,", () => {
  test.each(["itself", "a symbolic link to it", "another name of it"])("to %s", async (which) => {
    const { path, bytes } = sparseFile();
    const other = join(temporaryDirectory(), "other");
    if (which === "another name of it") linkSync(path, other);
    else symlinkSync(path, other);
    const { status, stderr } = await client("copy", path, which === "itself" ? path : other);
    expect(status).toBe(1);
    expect(stderr).toContain("are the same disk");
    expect(readFileSync(path).equals(bytes)).toBe(true);
  });

  test("from a file as standard input to the same file", async () => {
    const { path, bytes } = sparseFile();
    const { status, stderr } = await shell('client copy - "$1" <"$1"', path);
    expect(status).toBe(1);
    expect(stderr).toContain("are the same disk");
    expect(readFileSync(path).equals(bytes)).toBe(true);
  });
});

describe("pipes with names", () => {
  test("are read to their end", async () => {
    const { path, bytes } = sparseFile();
    const back = join(temporaryDirectory(), "back");
    const finished = await shell('client copy <(cat "$1") "$2"', path, back);
    expect(finished).toMatchObject({ status: 0, stderr: "" });
    expect(readFileSync(back).equals(bytes)).toBe(true);
  });

  test("are written in order", async () => {
    const { path, bytes } = sparseFile();
    const pipe = join(temporaryDirectory(), "pipe");
    const back = join(temporaryDirectory(), "back");
    const command = 'mkfifo "$2"; cat "$2" >"$3" & client copy "$1" "$2" && wait';
    const finished = await shell(command, path, pipe, back);
    expect(finished).toMatchObject({ status: 0, stderr: "" });
    expect(readFileSync(back).equals(bytes)).toBe(true);
  });

  test("and devices that accept everything, too", async () => {
    const { path } = sparseFile();
    await ok("copy", path, "/dev/null");
    const { status, stderr } = await client("copy", path, "/dev/full");
    expect(status).toBe(1);
    expect(stderr).toMatch(/^asyncnbd-client: error: ENOSPC.*\n$/);
  });
});

test("a minimum block size of 4 KiB makes whole blocks of a pipe's data", async () => {
  const { uri } = await startServer(["memory", "1M", "blocksize-minimum=4096"], {
    options: ["--filter=blocksize-policy"],
  });
  const cut = `for i in $(seq 4); do head -c 3000 /dev/zero | tr '\\0' x; sleep 0.02; done; head -c 288 /dev/zero`;
  const finished = await shell(`{ ${cut}; } | client copy - "$1"`, uri);
  expect(finished).toMatchObject({ status: 0, stderr: "" });
  const odd = await shell('head -c 5000 /dev/zero | client copy - "$1"', uri);
  expect(odd.status).toBe(1);
  expect(odd.stderr).toContain("multiples of 4096 only");
  const short = await client("copy", "--request-size=512", "/dev/null", uri);
  expect(short.stderr).toContain("multiples of 4096 only");
});

describe("standard output", () => {
  test("that is closed fails a copy, and ends a read", async () => {
    const { uri } = await startServer(["memory", "64M"]);
    const copied = await shell(
      'client copy "$1" - | head -c 1 >/dev/null; echo ${PIPESTATUS[0]}',
      uri,
    );
    expect(copied.stdout).toBe("1\n");
    expect(copied.stderr).toMatch(/^asyncnbd-client: error: .*EPIPE.*\n$/);
    const readOne = 'client read "$1" 0 64M | head -c 1 >/dev/null; echo ${PIPESTATUS[0]}';
    expect(await shell(readOne, uri)).toMatchObject({ stdout: "0\n", stderr: "" });
  });

  test.each(["copy $1 -", "read $1 0 1M", "info $1"])("that is full fails: %s", async (command) => {
    const { uri } = await startServer(["memory", "1M"]);
    const { status, stderr } = await shell(`set -f; client ${command} >/dev/full`, uri);
    expect(status).toBe(1);
    expect(stderr).toMatch(/^asyncnbd-client: error: .*ENOSPC.*\n$/);
  });
});

test("a file that accepts only a part fails a copy to standard output", async () => {
  const { uri } = await startServer(["memory", "1M"]);
  const out = join(temporaryDirectory(), "out");
  const limited = `trap "" XFSZ; ulimit -f 64; client copy --request-size=1M "$1" - >"$2"`;
  const { status, stderr } = await shell(limited, uri, out);
  expect(status).toBe(1);
  expect(stderr).toMatch(/^asyncnbd-client: error: standard output: EFBIG.*\n$/);
});

test("words of a server cannot control the terminal or add lines", async () => {
  const name = Buffer.from("a\u001b]0;x\u0007\nb");
  const { path } = await startWrongServer({
    option: (option) =>
      option === 3
        ? joined([
            optionReply(OPT.LIST, REP.SERVER, joined([u32(name.length), name])),
            optionReply(OPT.LIST, REP.ACK),
          ])
        : optionReply(option, REP.ERR_UNKNOWN, name),
  });
  const uri = `nbd+unix:///?socket=${path}`;
  expect(await ok("list", uri)).toBe("a\\u001b]0;x\\u0007\\u000ab\n");
  expect(JSON.parse(await ok("list", "--json", uri)).exports[0].name).toBe(String(name));
  const { status, stderr } = await client("map", uri);
  expect(status).toBe(1);
  expect(stderr).toMatch(/^asyncnbd-client: error: .*a\\u001b.*\n$/);
});

test("device numbers are split as makedev(3) joins them", () => {
  expect(deviceNumbers(0x0801)).toEqual({ major: 8, minor: 1 });
  expect(deviceNumbers(0x10_032c)).toEqual({ major: 3, minor: 0x12c }); // 300
  expect(deviceNumbers(0xffff_ffff)).toEqual({ major: 0xfff, minor: 0xfffff });
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
