// The same sessions behind filters of nbdkit and ours: the same requests reach a C plugin.

import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { MIB } from "../support/fixtures.js";
import { CMD, FLAG, INFO } from "../support/protocol.js";
import type { RequestFields } from "../support/raw-client.js";
import { asyncnbd, nbdkit, temporaryDirectory, testPlugin } from "../support/server.js";
import {
  compare,
  go,
  outcomeOf,
  payload,
  SESSIONS,
  type Session,
  WITHOUT_FAST_ZERO,
  withRequests,
} from "./call-log.js";

const { FUA } = FLAG;

describe("a C plugin's calls for every command, behind", () => {
  test.each([
    [["--filter=delay"], ["rdelay=1ms", "wdelay=1ms"]],
    [["--filter=delay"], ["delay-read=1ms", "delay-write=1ms", "delay-zero=1ms", "delay-trim=1ms"]],
    [["--filter=delay"], ["delay-cache=1ms", "delay-extents=1ms"]],
    [
      ["--filter=delay", "--filter=delay"],
      ["delay-open=1ms", "delay-close=1ms"],
    ],
  ])("%j %j", async (filters, parameters) => {
    const plugin = (log: string) => [testPlugin("calllog"), `log=${log}`, ...parameters];
    await compare(plugin, withRequests(go("one")), filters);
  });
});

describe("a C plugin's calls behind a filter, when a client", () => {
  test.each(SESSIONS.filter(([name]) => name.includes("information")))("%s", async (_, session) => {
    const plugin = (log: string) => [testPlugin("calllog"), `log=${log}`, "rdelay=1ms"];
    await compare(plugin, session, ["--filter=delay"]);
  });
});

describe("what reaches a C plugin behind", () => {
  const BLOCK = 65536;
  const block = (index: number) => ({
    offset: BigInt(index * BLOCK),
    length: BLOCK,
  });
  const full = Buffer.alloc(BLOCK, 5);
  /** A block at a time, without zeroes: nbdkit's cow writes those. */
  const BLOCKS: readonly RequestFields[] = [
    { type: CMD.READ, ...block(0) }, // from below
    { type: CMD.WRITE, offset: 100n, payload }, // the rest of the block comes from below
    { type: CMD.READ, ...block(0) },
    { type: CMD.WRITE, ...block(1), payload: full },
    { type: CMD.READ, ...block(1), length: 512 },
    { type: CMD.WRITE, ...block(2), payload: full, flags: FUA },
    { type: CMD.FLUSH },
    { type: CMD.CACHE, ...block(3) },
    { type: CMD.READ, ...block(3) },
    { type: CMD.READ, ...block(4) },
  ];

  /** Opening, requests and close, without the questions: ours asks them in a row of its own. */
  const isRequest = (call: string): boolean =>
    /^(open|close|pread|pwrite|flush|trim|zero|cache|extents) /.test(call);

  const expectSame = async (
    commands: readonly RequestFields[],
    parameters: readonly string[],
    theirs: readonly string[],
    ours: readonly string[] = theirs,
    session: Session = go("one"),
  ): Promise<void> => {
    const log = join(temporaryDirectory(), "log");
    const plugin = [testPlugin("calllog"), `log=${log}`, ...parameters];
    const asking = withRequests(session, commands);
    const [one, other] = [
      await outcomeOf(nbdkit, plugin, log, asking, theirs),
      await outcomeOf(asyncnbd, plugin, log, asking, ours),
    ].map(({ result, calls }) => ({ result, calls: calls.filter(isRequest) }));
    expect(other).toEqual(one);
    expect(other?.calls.length).toBeGreaterThan(2);
  };

  test.each([
    [["--filter=cow"], []],
    [["--filter=cow"], ["cow-on-read=true"]],
    [["--filter=cow"], ["cow-on-read=/nonexistent"]],
    [["--filter=cow"], ["cow-on-cache=true"]],
    [["--filter=cow", "--filter=delay"], ["rdelay=1ms"]],
    [["--filter=delay", "--filter=cow"], ["wdelay=1ms"]],
  ])("%j %j is the same", async (filters, parameters) => {
    await expectSame(BLOCKS, parameters, filters);
  });

  /** Not multiples of 4096 bytes, and longer than 32 MiB. */
  const ODD: readonly RequestFields[] = [
    { type: CMD.READ, offset: 1n, length: 1000 },
    { type: CMD.WRITE, offset: 513n, payload },
    { type: CMD.TRIM, offset: 7n, length: 5000 },
    { type: CMD.CACHE, offset: 9n, length: 9 },
    { type: CMD.WRITE_ZEROES, offset: 11n, length: 4096 },
    { type: CMD.READ, offset: 0n, length: 33 * MIB },
  ];

  test.each([
    [[], []],
    [["--filter=delay"], ["rdelay=1ms"]],
    [["--filter=stats"], ["statsfile=/dev/null"]],
  ])(
    "%j %j are the requests that break the block sizes the client was told",
    async (filters, parameters) => {
      const told = go("one", INFO.BLOCK_SIZE);
      await expectSame(ODD, ["block_size=4096", ...parameters], filters, filters, told);
    },
  );

  /** No two side by side that are written back: ours writes those at once. */
  const SINGLE_BLOCKS: readonly RequestFields[] = [
    { type: CMD.READ, ...block(0) },
    { type: CMD.WRITE, offset: 100n, payload }, // the rest of the block comes from below
    { type: CMD.READ, ...block(0) },
    { type: CMD.WRITE, ...block(2), payload: full },
    { type: CMD.READ, ...block(2), length: 512 },
    { type: CMD.WRITE, ...block(4), payload: full, flags: FUA },
    { type: CMD.FLUSH },
    { type: CMD.CACHE, ...block(6) },
    { type: CMD.READ, ...block(6) },
    { type: CMD.READ, ...block(8) },
    { type: CMD.READ, ...block(8) },
    { type: CMD.TRIM, ...block(2) },
    { type: CMD.WRITE_ZEROES, ...block(10) },
    { type: CMD.WRITE_ZEROES, ...block(12), length: 512, flags: FUA },
    { type: CMD.WRITE, ...block(14), payload: full },
    { type: CMD.FLUSH },
    { type: CMD.FLUSH },
  ];

  test.each([
    [],
    ["cache=writeback"],
    ["cache=writethrough"],
    ["cache=writethrough", "can_fua=1"],
    ["cache=unsafe"],
    ["cache-on-read=true"],
    ["cache-on-read=/nonexistent"],
    ["cache-on-read=/"],
    ["cache-max-size=1M"],
    ["cache-min-block-size=64K"],
  ])("a cache is the same with %j %j", async (...given) => {
    const parameters = given.filter((one): one is string => typeof one === "string");
    await expectSame(SINGLE_BLOCKS, parameters, ["--filter=cache"]);
  });

  test.each([[[]], [["--filter=delay"]]])(
    "readonly over %j is the same as with -r",
    async (filters) => {
      const reads = WITHOUT_FAST_ZERO.filter(
        ({ type }) => type === CMD.READ || type === CMD.CACHE || type === CMD.WRITE,
      );
      await expectSame(reads, [], ["-r", ...filters], ["--filter=readonly", ...filters]);
    },
  );
});
