// Native filters against the .so files that they stand for, both in this server: the same random
// requests get the same answers, and the plugin gets the same calls.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { MIB } from "../support/fixtures.js";
import { CMD, EXPORT_FLAG, FLAG } from "../support/protocol.js";
import { RawClient, type RequestFields } from "../support/raw-client.js";
import {
  debianFilter,
  eventually,
  startServer,
  temporaryDirectory,
  testPlugin,
} from "../support/server.js";

const { READ, WRITE, FLUSH, TRIM, CACHE, WRITE_ZEROES: ZERO } = CMD;
const { FUA, NO_HOLE, FAST_ZERO } = FLAG;
const ALL_KINDS: readonly number[] = [READ, WRITE, FLUSH, TRIM, CACHE, ZERO];
/** Transmission flags without which a command or one of its flags may not be sent. */
const NEEDED = {
  command: new Map<number, number>([
    [FLUSH, EXPORT_FLAG.SEND_FLUSH],
    [TRIM, EXPORT_FLAG.SEND_TRIM],
    [ZERO, EXPORT_FLAG.SEND_WRITE_ZEROES],
    [CACHE, EXPORT_FLAG.SEND_CACHE],
  ]),
  flag: new Map<number, number>([
    [FUA, EXPORT_FLAG.SEND_FUA],
    [FAST_ZERO, EXPORT_FLAG.SEND_FAST_ZERO],
  ]),
};

/** Steele, Lea and Flood's SplitMix32: the same numbers from 0 to 1 for the same seed. */
function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x9e3779b9) | 0;
    let number = Math.imul(state ^ (state >>> 16), 0x21f0aaad);
    number = Math.imul(number ^ (number >>> 15), 0x735a2d97);
    return ((number ^ (number >>> 15)) >>> 0) / 2 ** 32;
  };
}

/** As a client sees it that keeps to what it is offered; near the ends as often as anywhere. */
function randomRequest(
  random: () => number,
  sizeBytes: number,
  flags: number,
  kinds: readonly number[],
): RequestFields {
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)] as T;
  const isOffered = (needed = 0): boolean => (flags & needed) === needed;
  const commands = kinds.filter((type) => isOffered(NEEDED.command.get(type)));
  const type = pick(commands);
  if (type === FLUSH) return { type };
  const length = Math.min(sizeBytes, 1 + Math.floor(random() * pick([16, 512, 70_000])));
  const latest = sizeBytes - length;
  const offset = pick([0, latest, Math.floor(random() * (latest + 1))]);
  const possible = type === ZERO ? [FUA, NO_HOLE, FAST_ZERO] : type === READ ? [] : [FUA];
  const given = type === CACHE ? [] : possible;
  const chosen = given.filter((flag) => isOffered(NEEDED.flag.get(flag)) && random() < 0.4);
  const sum = chosen.reduce((all, flag) => all | flag, 0);
  const payload = Buffer.alloc(length, random() < 0.5 ? 0 : 7);
  return {
    type,
    offset: BigInt(offset),
    length,
    flags: sum,
    ...(type === WRITE && { payload }),
  };
}

/** Of one server: what clients are offered and answered, and what the plugin is asked. */
async function seenWith(
  filter: string,
  parameters: readonly string[],
  seed: number,
  kinds = ALL_KINDS,
) {
  const log = join(temporaryDirectory(), "log");
  const server = await startServer([testPlugin("calllog"), `log=${log}`, ...parameters], {
    options: [`--filter=${filter}`, "-t", "1"],
    noProbe: true,
  });
  const client = await RawClient.connect(server.socket);
  const { sizeBytes, flags } = await client.go("one");
  const random = randomNumbers(seed);
  const answers: unknown[] = [];
  for (let i = 0; i < 200; i++) {
    const request = randomRequest(random, Number(sizeBytes), flags, kinds);
    const error = await client.request(request);
    const data = request.type === READ && error === 0 ? await client.read(request.length ?? 0) : "";
    answers.push([error, Buffer.from(data).toString("hex", 0, 64)]);
  }
  client.socket.end();
  const calls = (): string[] => readFileSync(log, "utf8").trimEnd().split("\n");
  await eventually("close", () => calls().some((call) => call.startsWith("close")) || undefined);
  await server.stop();
  const requests = /^(pread|pwrite|flush|trim|zero|cache|extents) /;
  return { sizeBytes, flags, answers, calls: calls().filter((call) => requests.test(call)) };
}

/** What a plugin answers that makes a difference. */
const PLUGINS: Readonly<Record<string, readonly string[]>> = {
  blocksize: ["", "can_fua=1", "can_zero=0", "can_fast_zero=0", "can_cache=1", "block_size=4096"],
  cacheextents: ["", "can_extents=0"],
  exitwhen: [""],
  exportname: [""],
  fua: ["", "can_fua=1", "can_zero=0"],
  ip: [""],
  limit: [""],
  "multi-conn": ["", "can_fua=1", "can_zero=0", "can_multi_conn=1"],
  nocache: ["", "can_cache=0", "can_cache=1"],
  noextents: ["", "can_extents=0"],
  noparallel: [""],
  nozero: ["", "can_zero=0", "can_fast_zero=0"],
  offset: ["", "can_zero=0"],
  pause: ["", "can_zero=0"],
  protect: ["", "can_fua=1"],
  truncate: ["", "can_fast_zero=0", "can_zero=0", "can_extents=0"],
};

/** Of filters whose twins do not stand all: a trim or zeroing ends a server with nbdkit's protect. */
const KINDS: Readonly<Record<string, readonly number[]>> = {
  protect: [READ, WRITE, FLUSH, CACHE],
};

describe.each<[name: string, parameters: readonly string[]]>([
  ["blocksize", []],
  ["blocksize", ["minblock=512"]],
  ["blocksize", ["minblock=4K", "maxdata=8K"]],
  ["blocksize", ["minblock=1K", "maxlen=16K"]],
  ["blocksize", ["minblock=64K", "maxdata=64K", "maxlen=64K"]],
  ["blocksize", ["maxdata=10000"]],
  ["blocksize", ["maxlen=5000"]],
  ["cacheextents", []],
  ["fua", ["fuamode=emulate"]],
  ["fua", ["fuamode=native"]],
  ["fua", ["fuamode=force"]],
  ["fua", ["fuamode=pass"]],
  ["fua", ["fuamode=discard"]],
  ["fua", []],
  ["exitwhen", ["exit-when-file-created=/nonexistent"]],
  ["exportname", ["exportdesc=fixed:words"]],
  ["ip", ["allow=anyunix", "deny=all"]],
  ["limit", ["limit=3"]],
  ...["auto", "emulate", "plugin", "disable", "unsafe"].flatMap((mode) =>
    ["connection", "fast", "off"].map((track): [string, readonly string[]] => [
      "multi-conn",
      [`multi-conn-mode=${mode}`, `multi-conn-track-dirty=${track}`],
    ]),
  ),
  ["noparallel", []],
  ["noparallel", ["serialize=all-requests"]],
  ["noparallel", ["serialize=connections"]],
  ["pause", [`pause-control=/tmp/asyncnbd-twins-${process.pid}`]],
  ["protect", ["protect=100-70000"]],
  ["protect", ["protect=~1000-200000"]],
  ["nocache", []],
  ["nocache", ["cachemode=emulate"]],
  ["nocache", ["cachemode=nop"]],
  ["noextents", []],
  ["nozero", []],
  ...["emulate", "notrim", "plugin"].flatMap((mode): [string, readonly string[]][] =>
    ["default", "none", "slow", "ignore"].map((fast) => [
      "nozero",
      [`zeromode=${mode}`, `fastzeromode=${fast}`],
    ]),
  ),
  ["offset", ["offset=1000", "range=100000"]],
  ["offset", ["offset=63M"]],
  ["truncate", ["truncate=70000"]],
  ["truncate", [`truncate=${64 * MIB + 100_000}`]],
  ["truncate", [`truncate=${64 * MIB + 1}`, "round-up=64K"]],
])("%s %j", (name, parameters) => {
  test.each(PLUGINS[name] ?? [])("in front of a plugin with %j", async (answer) => {
    const given = answer === "" ? [] : [answer];
    const seed = name.length * 7919 + given.length;
    const library = debianFilter(name);
    const kinds = KINDS[name] ?? ALL_KINDS;
    const theirs = await seenWith(library, [...parameters, ...given], seed, kinds);
    const ours = await seenWith(name, [...parameters, ...given], seed, kinds);
    expect(ours).toEqual(theirs);
    expect(theirs.answers.length).toBe(200);
  });
});
