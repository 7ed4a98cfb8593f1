// nbdkit's debug flags: the same requests are told of with the same numbers, and only with the flag.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { run } from "../support/command.js";
import { clean, nbdkit, runAsyncnbd, temporaryDirectory } from "../support/server.js";

interface Flagged {
  readonly flag: string;
  readonly words: (directory: string) => readonly string[];
  /** Of nbdsh. */
  readonly requests: readonly string[];
  /** The lines that the flag is for, and what they are to agree on. */
  readonly nbdkit: RegExp;
  readonly asyncnbd: RegExp;
  /** Ours asks the same more than once. */
  readonly isRepeated?: boolean;
}

const MEMORY = ["memory", "1M"] as const;

const FLAGS: readonly Flagged[] = [
  {
    flag: "cow.verbose",
    words: () => ["--filter=cow", ...MEMORY, "cow-on-cache=true"],
    requests: [
      'h.pwrite(b"a" * 512, 0)',
      "h.pread(1024, 0)",
      'h.pwrite(b"b" * 65536, 65536)',
      "h.pread(196608, 65536)",
      "h.trim(65536, 131072)",
      "h.cache(65536, 262144)",
      "h.cache(65536, 262144)",
    ],
    nbdkit:
      /debug: cow: blk_(read|write|trim|cache)\w* block (\d+) \(offset (\d+)\).*?( not)?( allocated)?$/,
    asyncnbd:
      /debug: cow: (read|write|trim|cache) block (\d+) \(offset (\d+)\).*?( not)?( allocated)?$/,
  },
  {
    flag: "cache.verbose",
    words: () => ["--filter=cache", ...MEMORY],
    requests: [
      'h.pwrite(b"a" * 512, 0)',
      "h.pread(1024, 0)",
      'h.pwrite(b"b" * 65536, 131072)',
      "h.pread(65536, 131072)",
      "h.pread(65536, 196608)",
      "h.zero(512, 262144)",
      "h.cache(65536, 262144)",
    ],
    nbdkit:
      /debug: cache: (?:blk_)?(read|writeback|cache)\w* block (\d+) \(offset (\d+)\)(?: is)?( not cached| cached| dirty|)$/,
    asyncnbd:
      /debug: cache: (read|writeback|cache) block (\d+) \(offset (\d+)\) run of length 1(?: is)?( not cached| cached| dirty|)$/,
  },
  {
    flag: "cache.verbose",
    words: () => ["--filter=cache", ...MEMORY, "cache=writethrough", "cache-on-read=true"],
    requests: ['h.pwrite(b"a" * 65536, 0)', "h.pread(65536, 131072)", "h.cache(65536, 196608)"],
    nbdkit:
      /debug: cache: (?:blk_)?(read|writethrough|cache|cache-on-read)(?:_multiple)? block (\d+)/,
    asyncnbd: /debug: cache: (read|writethrough|cache|cache-on-read) block (\d+)/,
  },
  {
    flag: "cacheextents.cache",
    words: () => ["--filter=cacheextents", ...MEMORY],
    requests: [
      "h.block_status(65536, 0, lambda *a: 0)",
      "h.block_status(4096, 4096, lambda *a: 0)",
      'h.pwrite(b"a" * 512, 0)',
      "h.block_status(1048576, 0, lambda *a: 0)",
      "h.block_status(4096, 1044480, lambda *a: 0)",
    ],
    nbdkit:
      /debug: cacheextents: .*?(cache miss|returning from cache|updating.*offset=\d+) ?(?:length=\d+ (type=\d))?/,
    asyncnbd:
      /debug: cacheextents: .*?(cache miss|returning from cache|updating.*offset=\d+) ?(?:length=\d+ (type=\d))?/,
  },
  {
    flag: "extentlist.lookup",
    words: (directory) => {
      writeFileSync(join(directory, "list"), "0 65536 3\n65536 65536 0\n");
      return ["--filter=extentlist", ...MEMORY, `extentlist=${join(directory, "list")}`];
    },
    requests: [
      "h.block_status(65536, 0, lambda *a: 0)",
      "h.block_status(524288, 4096, lambda *a: 0)",
    ],
    nbdkit: /debug: extentlist lookup: loop i=(\d+) count=(\d+) offset=(\d+)/,
    asyncnbd: /debug: extentlist: lookup: extent\[(\d+)\] count=(\d+) offset=(\d+)/,
  },
  {
    flag: "ip.rules",
    words: () => ["--filter=ip", "null", "1M", "allow=anyipv6,anyunix", "deny=any"],
    requests: ["h.pread(512, 0)"],
    nbdkit: /debug: ip: (parsed|match source with) (allow|deny)=(\w+)(?: => (yes|no))?$/,
    asyncnbd: /debug: ip: (parsed|match source with) (allow|deny)=(\w+)(?: => (yes|no))?$/,
    isRepeated: true,
  },
  {
    flag: "protect.write",
    words: () => ["--filter=protect", ...MEMORY, "protect=0-65535"],
    requests: [
      "h.pwrite(bytes(512), 0)",
      "h.pwrite(bytes(1024), 65024)",
      "h.zero(131072, 0)",
      "h.trim(512, 65536)",
      'h.pwrite(b"a" * 512, 131072)',
    ],
    nbdkit: /debug: protect: (checking|skipping) \w+ region offset (\d+) length (\d+)/,
    asyncnbd: /debug: protect: (checking|skipping) \w+ region offset (\d+) length (\d+)/,
  },
  {
    flag: "rate.bucket",
    words: () => ["--filter=rate", ...MEMORY, "rate=100M"],
    requests: ["h.pread(1048576, 0)", 'h.pwrite(b"a" * 512, 0)'],
    nbdkit: /debug: bucket (read|write) \((global limit)\): deducting (\d+) tokens/,
    asyncnbd: /debug: rate: bucket (read|write) \((global limit)\): deducting (\d+) tokens/,
  },
  {
    flag: "file.zero",
    words: (directory) => {
      const disk = join(directory, "disk");
      writeFileSync(disk, Buffer.alloc(2 ** 20, 1));
      return ["file", disk];
    },
    requests: ["h.zero(65536, 0)", "h.zero(65536, 0, nbd.CMD_FLAG_NO_HOLE)", "h.zero(512, 100)"],
    nbdkit: /debug: .*zero (succeeded|failed)/,
    asyncnbd: /debug: file: zero (succeeded|failed)/,
  },
  {
    flag: "memory.dir",
    words: () => MEMORY,
    requests: ['h.pwrite(b"a" * 512, 0)', "h.zero(65536, 0)"],
    nbdkit: /debug: \w+: (insert|free)(?:ed|ing)/,
    asyncnbd: /debug: memory: (?:zeroing and )?(insert|free)(?:ed|ing)/,
  },
];

const toldIn = (log: string, pattern: RegExp): unknown[][] =>
  log.split("\n").flatMap((line) => {
    const found = pattern.exec(line);
    return found === null ? [] : [found.slice(1).map((word) => word?.trim())];
  });

const withoutRepetition = (told: unknown[][]): unknown[][] =>
  told.filter((line, i) => told.findIndex((other) => `${other}` === `${line}`) === i);

/** The server's log; nbdsh and what is in it are the system's Python's. */
async function logOf(isOurs: boolean, { words, requests }: Flagged, options: readonly string[]) {
  const args = ["-f", "-v", "-U", "-", ...options, ...words(temporaryDirectory())];
  const script = requests.map((request) => ` -c '${request}'`).join("");
  const shell = `PATH=/usr/bin:$PATH nbdsh --base-allocation -u "$uri"${script}`;
  const line = [...args, "--run", isOurs ? clean(shell) : shell];
  const { status, stderr } = await (isOurs ? runAsyncnbd(line) : run([...nbdkit, ...line]));
  expect(status, stderr).toBe(0);
  return stderr;
}

describe.each(FLAGS)("$flag", (flagged) => {
  test("logs the same about requests", async () => {
    const on = ["-D", `${flagged.flag}=1`];
    const theirs = toldIn(await logOf(false, flagged, on), flagged.nbdkit);
    const log = await logOf(true, flagged, on);
    expect(log).not.toMatch(/warning: --debug/);
    expect(theirs.length).toBeGreaterThan(0);
    const ours = toldIn(log, flagged.asyncnbd);
    expect(flagged.isRepeated ? withoutRepetition(ours) : ours).toEqual(theirs);
  });

  test("logs nothing if it is missing or 0", async () => {
    for (const options of [[], ["-D", `${flagged.flag}=0`]]) {
      expect(toldIn(await logOf(false, flagged, options), flagged.nbdkit)).toEqual([]);
      expect(toldIn(await logOf(true, flagged, options), flagged.asyncnbd)).toEqual([]);
    }
  });
});
