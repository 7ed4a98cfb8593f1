// Random stacks of up to five layers, native filters, nbdkit's and middleware, in front of real
// plugins: what clients read is what they have written, whatever fails below and whoever is killed.
// LAYERS_SEED is the first of LAYERS_RUNS runs.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, onTestFailed, test } from "vitest";
import { DiskModel, SECTOR_BYTES } from "../support/disk-model.js";
import { COMPLAINT, hostileMiddleware, hostilePlugin } from "../support/hostile-layers.js";
import { CMD, ERRNO, EXPORT_FLAG, FLAG, STATE } from "../support/protocol.js";
import { type Random, randomOf } from "../support/random.js";
import {
  debianFilter,
  eventually,
  type RunningServer,
  startServer,
  temporaryDirectory,
  testPlugin,
} from "../support/server.js";
import { StrictClient, type StrictReply, type StrictRequest } from "../support/strict-client.js";

const FIRST_SEED = Number(process.env.LAYERS_SEED ?? "1");
const RUNS = Number(process.env.LAYERS_RUNS ?? "10");
const ROUNDS = 40;

/** Of what is used: five regions of asyncmixed, which answer in five right ways. */
const SIZE_BYTES = 5 * 65536;
const SECTORS = SIZE_BYTES / SECTOR_BYTES;

interface Stack {
  readonly words: readonly string[];
  readonly parameters: readonly string[];
}

const moduleOf = (text: string): string => {
  const path = join(temporaryDirectory(), "hostile.mjs");
  writeFileSync(path, text);
  return path;
};

type Layer = readonly [word: string, ...parameters: string[]];

/** Those that change nothing of what is read. */
const PLAIN: readonly ((random: Random) => Layer)[] = [
  () => ["--filter=delay", "rdelay=1ms", "delay-write=1ms", "delay-flush=2ms"],
  () => ["--filter=log", "logfile=/dev/null"],
  () => ["--filter=stats", "statsfile=/dev/null"],
  () => ["--filter=blocksize", "minblock=4K", "maxdata=16K"],
  () => ["--filter=cacheextents"],
  () => ["--filter=exportname"],
  (random) => ["--filter=fua", `fuamode=${["emulate", "pass", "discard"][random(3)]}`],
  () => ["--filter=limit", "limit=20"],
  (random) => [
    "--filter=multi-conn",
    `multi-conn-mode=${["auto", "emulate", "disable", "unsafe"][random(4)]}`,
    `multi-conn-track-dirty=${["connection", "fast", "off"][random(3)]}`,
  ],
  (random) => ["--filter=nocache", `cachemode=${["none", "emulate", "nop"][random(3)]}`],
  () => ["--filter=noextents"],
  (random) => ["--filter=noparallel", `serialize=${["requests", "all-requests"][random(2)]}`],
  (random) => ["--filter=nozero", `zeromode=${["none", "emulate"][random(2)]}`],
  () => ["--filter=offset", "offset=0", `range=${SIZE_BYTES}`],
  () => ["--filter=pause", `pause-control=${join(temporaryDirectory(), "control")}`],
  () => ["--filter=rate", "rate=8G"],
  () => ["--filter=readahead"],
  () => ["--filter=retry-request", "retry-request-retries=2", "retry-request-delay=1ms"],
  () => ["--filter=time-limit", "time-limit=0"],
  () => ["--filter=truncate", `truncate=${SIZE_BYTES}`],
];

const NBDKITS: readonly Layer[] = [
  [`--filter=${debianFilter("nofilter")}`],
  [`--filter=${debianFilter("blocksize")}`, "minblock=512"],
  [`--filter=${debianFilter("cacheextents")}`],
  [`--filter=${debianFilter("cow")}`],
  [`--filter=${debianFilter("fua")}`, "fuamode=emulate"],
  [`--filter=${debianFilter("noextents")}`],
  [`--filter=${debianFilter("nozero")}`, "zeromode=emulate"],
  [`--filter=${debianFilter("readahead")}`],
];

/** A layer, by its words, and the parameters that the first of its kind gets. */
function layer(random: Random): Layer {
  switch (random(10)) {
    case 0:
      return ["--filter=cow", ["cow-on-read=true", "cow-block-size=4K"][random(2)] as string];
    case 1: {
      const mode = ["writeback", "writethrough", "unsafe"][random(3)];
      return ["--filter=cache", `cache=${mode}`, "cache-min-block-size=8K"].concat(
        ["cache-on-read=true", "cache-on-read=/nonexistent"][random(2)] as string,
        random(2) === 0
          ? []
          : ["cache-max-size=1M", "cache-high-threshold=8", "cache-low-threshold=4"],
      ) as [string, ...string[]];
    }
    case 2:
      return ["--filter=retry", "retries=2", "retry-delay=1ms"];
    case 3:
      return random(4) === 0 ? ["--filter=readonly"] : ["--filter=stats", "statsfile=/dev/null"];
    case 4:
    case 5:
      return NBDKITS[random(NBDKITS.length)] as Layer;
    case 6:
    case 7:
      return (PLAIN[random(PLAIN.length)] as (typeof PLAIN)[number])(random);
    default:
      return [`--filter=${moduleOf(hostileMiddleware(random(1e6)))}`];
  }
}

function stack(random: Random): Stack {
  const drawn = Array.from({ length: 1 + random(5) }, () => layer(random));
  // A second one would get no file's name, or no size.
  const single = /=(stats|log|offset|pause|truncate)$/;
  const layers = drawn.filter(
    ([word], i) => !single.test(word) || drawn.findIndex(([one]) => one === word) === i,
  );
  const plugins = [
    ["memory", `size=${SIZE_BYTES}`],
    [testPlugin("async-ramdisk"), `size=${SIZE_BYTES}`],
    [testPlugin("asyncmixed"), "size=1M"],
    [moduleOf(hostilePlugin(random(1e6), SIZE_BYTES))],
  ];
  const [plugin = "", ...parameters] = plugins[random(4)] as string[];
  const own = new Map(
    layers.flatMap(([, ...given]) => given).map((word) => [word.split("=")[0], word]),
  );
  return {
    words: [...layers.map(([word]) => word), plugin],
    parameters: [...parameters, ...own.values()],
  };
}

interface Planned {
  readonly request: StrictRequest;
  /** In sectors. */
  readonly offset: number;
  readonly length: number;
  /** What a success leaves behind, if it writes. */
  readonly byte: number | undefined;
}

/** Requests of which those that write have their range for themselves. */
function plan(random: Random, flags: number): Planned[] {
  const planned: Planned[] = [];
  const taken: { offset: number; length: number; writes: boolean }[] = [];
  for (let i = 1 + random(12); i > 0; i--) {
    const length = 1 + random(random(4) === 0 ? 200 : 12);
    const offset = random(SECTORS - length);
    const one = requestFor(random, flags, offset, length);
    const writes = one.byte !== undefined;
    const isFree = taken.every(
      (other) =>
        !(writes || other.writes) ||
        other.offset + other.length <= offset ||
        offset + length <= other.offset,
    );
    if (!isFree) continue;
    taken.push({ offset, length, writes });
    planned.push(one);
  }
  return planned;
}

function requestFor(random: Random, flags: number, offset: number, length: number): Planned {
  const range = { offset: BigInt(offset * SECTOR_BYTES), length: length * SECTOR_BYTES };
  const fua = (flags & EXPORT_FLAG.SEND_FUA) !== 0 && random(4) === 0 ? FLAG.FUA : 0;
  const can = (flag: number): boolean =>
    (flags & EXPORT_FLAG.READ_ONLY) === 0 && (flags & flag) !== 0;
  const kind = random(20);
  if (kind < 8 && can(~0)) {
    const byte = 1 + random(255);
    const payload = Buffer.alloc(range.length, byte);
    return { request: { type: CMD.WRITE, ...range, payload, flags: fua }, offset, length, byte };
  }
  if (kind === 8 && can(EXPORT_FLAG.SEND_WRITE_ZEROES))
    return { request: { type: CMD.WRITE_ZEROES, ...range, flags: fua }, offset, length, byte: 0 };
  if (kind === 9 && can(EXPORT_FLAG.SEND_FLUSH))
    return { request: { type: CMD.FLUSH }, offset, length, byte: undefined };
  if (kind === 10 && (flags & EXPORT_FLAG.SEND_CACHE) !== 0)
    return { request: { type: CMD.CACHE, ...range }, offset, length, byte: undefined };
  if (kind === 11)
    return { request: { type: CMD.BLOCK_STATUS, ...range }, offset, length, byte: undefined };
  if (kind === 12 && can(EXPORT_FLAG.SEND_TRIM))
    return { request: { type: CMD.TRIM, ...range, flags: fua }, offset, length, byte: 0 };
  return { request: { type: CMD.READ, ...range }, offset, length, byte: undefined };
}

function checkReply(model: DiskModel, planned: Planned, reply: StrictReply, words: string): void {
  const { request, offset, length, byte } = planned;
  if (reply.error !== 0) {
    checkFailure(planned, reply, words);
    if (byte !== undefined) model.mayHaveWritten(offset, length, byte);
    return;
  }
  if (request.type === CMD.TRIM) model.mayHaveWritten(offset, length, 0);
  else if (byte !== undefined) model.wrote(offset, length, byte);
  else if (request.type === CMD.READ) model.checkRead(offset, reply.data);
  else if (request.type === CMD.BLOCK_STATUS) checkExtents(model, planned, reply);
}

/** The words and the offset come from where it was made to fail, through all that is in front. */
function checkFailure(
  { request, offset, length }: Planned,
  reply: StrictReply,
  words: string,
): void {
  expect(reply.errorText).toMatch(/^injected \d+$/);
  expect([ERRNO.EIO, ERRNO.ENOSPC]).toContain(reply.error);
  // What makes requests of whole blocks may fail outside of what was asked for, and nbdkit's filters
  // say nothing of where.
  if (request.type !== CMD.READ || /cow|cache|blocksize|nbdkit-/.test(words)) return;
  const sector = Number(reply.errorOffset) / SECTOR_BYTES;
  expect(sector >= offset && sector < offset + length).toBe(true); // holes need not be read
}

/** What is said to be zeroes may be zeroes. */
function checkExtents(
  model: DiskModel,
  { offset, length }: Planned,
  { statuses }: StrictReply,
): void {
  for (const extents of statuses.values()) {
    let sector = offset;
    for (const [lengthBytes, flags] of extents) {
      const end = Math.min(sector + Number(lengthBytes) / SECTOR_BYTES, offset + length);
      for (; sector < end; sector++)
        if ((Number(flags) & STATE.ZERO) !== 0 && !model.mayBe(sector, 0))
          throw new Error(`sector ${sector} is not zeroes`);
    }
  }
}

const connect = (server: RunningServer): Promise<StrictClient> =>
  StrictClient.connect(server.socket, { style: "structured", contexts: ["base:allocation"] });

/** Sends all, dies, and is gone when this resolves: what it has asked for is over. */
async function sendAndDie(
  server: RunningServer,
  client: StrictClient,
  planned: readonly Planned[],
  model: DiskModel,
): Promise<void> {
  const gone = (): number => server.stderr().split("disconnected").length;
  const before = gone();
  client.requests(...planned.map(({ request }) => request)).catch(() => {});
  for (const { offset, length, byte } of planned)
    if (byte !== undefined) model.mayHaveWritten(offset, length, byte);
  await new Promise(setImmediate);
  client.raw.socket.destroy();
  await eventually("the end of its connection", () => (gone() > before ? true : undefined));
}

test.each(Array.from({ length: RUNS }, (_, i) => FIRST_SEED + i))(
  "clients read what they have written, seed %i",
  async (seed) => {
    const random = randomOf(seed);
    const { words, parameters } = stack(random);
    onTestFailed(() => console.error(`the stack was ${words.join(" ")} ${parameters.join(" ")}`));
    const server = await startServer([...words, ...parameters], { options: ["--log-clients"] });
    const model = new DiskModel(SIZE_BYTES);
    const clients = [await connect(server), await connect(server)];
    for (let round = 0; round < ROUNDS; round++) {
      const which = random(2);
      const client = clients[which] as StrictClient;
      const planned = plan(random, client.flags);
      if (random(12) === 0) {
        await sendAndDie(server, client, planned, model);
        clients[which] = await connect(server);
        continue;
      }
      const replies = await client.requests(...planned.map(({ request }) => request));
      for (const [i, one] of planned.entries())
        checkReply(model, one, replies[i] as StrictReply, words.join(" "));
    }
    for (const client of clients) await client.disconnect();
    const { stderr } = await server.stop();
    expect(stderr).not.toContain(COMPLAINT);
  },
);
