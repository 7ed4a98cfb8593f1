// What filters cost: the server behind each of its native filters against nbdkit behind the same one,
// and against itself without, on `memory`. Fresh servers in turn, so that what else the machine does
// hits all of them. Then what a layer that only looks costs in processor time, and how many requests
// wait at once behind a long delay.
//   npm run bench:layers -- [--rounds 5] [--seconds 0.5] [--filters WORDS] [--loads WORDS]
//                           [--pairs 20] [--parts WORDS]

import { readFileSync, rmSync } from "node:fs";
import { fill, SIZE_BYTES } from "./support/lineup.mjs";
import { apply, buildLoad } from "./support/load.mjs";
import { containsAny, readOptions, wordsOf } from "./support/options.mjs";
import { Progress, round } from "./support/progress.mjs";
import { asyncnbd, nbdkit, nbdkitFilter, withServer } from "./support/servers.mjs";
import { environment, intervalOfMedian, median } from "./support/statistics.mjs";

/**
 * @typedef {import("./support/load.mjs").Load} Load
 * @typedef {import("./support/lineup.mjs").Participant} Participant
 */

const WARM_UP_SECONDS = 0.2;
const KIB4 = 4 << 10;
const KIB128 = 128 << 10;
const SIZE = `${SIZE_BYTES}`;

/** @type {Record<string, Load>} */
const READS = {
  ...Object.fromEntries(
    [1, 32, 128].map((depth) => [`4K read × ${depth}`, { bytes: KIB4, depth }]),
  ),
  "128K read × 16": { bytes: KIB128, depth: 16 },
};
/** @type {Record<string, Load>} */
const WRITES = {
  "4K write × 32": { bytes: KIB4, depth: 32, readPercent: 0 },
  "128K write × 16": { bytes: KIB128, depth: 16, readPercent: 0 },
};

const DELAYS = ["rdelay=1ms", "wdelay=1ms"];
const isEmpty = true;
// On tmpfs, as nbdkit's log writes each line before the reply leaves.
const LOG_FILE = "/dev/shm/asyncnbd-bench.log";

/**
 * The same filter of both, with the same parameters.
 * @param {string} name
 * @param {...string} words
 */
const both = (name, ...words) => ({
  ours: asyncnbd(`--filter=${name}`, "memory", SIZE, ...words),
  theirs: nbdkit(`--filter=${name}`, "memory", SIZE, ...words),
  loads: { ...READS, ...WRITES },
});

/**
 * nbdkit's own filter, in this server and in nbdkit.
 * @param {string} name
 * @param {...string} words
 */
const unmodified = (name, ...words) => ({
  ours: asyncnbd(`--filter=${nbdkitFilter(name)}`, "memory", SIZE, ...words),
  theirs: nbdkit(`--filter=${name}`, "memory", SIZE, ...words),
  loads: READS,
});

/**
 * A warm disk has been written to through the filter.
 * @type {Record<string, { ours: Participant, theirs: Participant, loads: Record<string, Load> }>}
 */
const FILTERS = {
  "cow, warm": {
    ours: { ...asyncnbd("--filter=cow", "memory", SIZE), isEmpty },
    theirs: { ...nbdkit("--filter=cow", "memory", SIZE), isEmpty },
    loads: { ...READS, ...WRITES },
  },
  "cow, cold": {
    ours: asyncnbd("--filter=cow", "memory", SIZE),
    theirs: nbdkit("--filter=cow", "memory", SIZE),
    loads: READS,
  },
  "cache, warm": {
    ours: { ...asyncnbd("--filter=cache", "memory", SIZE), isEmpty },
    theirs: { ...nbdkit("--filter=cache", "memory", SIZE), isEmpty },
    loads: { ...READS, ...WRITES },
  },
  "cache, cold": {
    ours: asyncnbd("--filter=cache", "memory", SIZE),
    theirs: nbdkit("--filter=cache", "memory", SIZE),
    loads: READS,
  },
  "delay of 1 ms": {
    ours: { ...asyncnbd("--filter=delay", "memory", SIZE, ...DELAYS), isEmpty },
    theirs: { ...nbdkit("--filter=delay", "memory", SIZE, ...DELAYS), isEmpty },
    loads: { ...READS, ...WRITES },
  },
  // nbdkit's is a property of its server, and its disk stays empty.
  readonly: {
    ours: asyncnbd("--filter=readonly", "memory", SIZE),
    theirs: nbdkit("-r", "memory", SIZE),
    loads: READS,
  },
  rate: both("rate", "rate=100G"),
  error: both("error", "error-rate=0%"),
  log: both("log", `logfile=${LOG_FILE}`),
  stats: both("stats", "statsfile=/dev/null"),
  offset: both("offset", "offset=4096"),
  nozero: both("nozero"),
  "nbdkit's offset": unmodified("offset", "offset=4096"),
  "nbdkit's cow": unmodified("cow"),
  "nbdkit's nozero": unmodified("nozero"),
  "nbdkit's cache": unmodified("cache"),
  "nbdkit's blocksize": unmodified("blocksize", "minblock=4096"),
};

const options = readOptions(import.meta.url, {
  rounds: { type: "string", default: "5" },
  seconds: { type: "string", default: "0.5" },
  filters: { type: "string", default: "" },
  loads: { type: "string", default: "" },
  pairs: { type: "string", default: "20" },
  parts: { type: "string", default: "filters|processor|delay" },
});
const parts = wordsOf("parts", options.parts, ["filters", "processor", "delay"], "|");
const rounds = Number(options.rounds);
const seconds = Number(options.seconds);

const wantsFilter = containsAny(options.filters);
const wantsLoad = containsAny(options.loads);

/**
 * Requests a second.
 * @param {Participant} participant
 * @param {Load} load
 */
const measure = (participant, load) =>
  withServer(participant, async (running) => {
    await fill(participant, running);
    const measured = await apply(running.where, {
      ...load,
      warmUpSeconds: WARM_UP_SECONDS,
      seconds,
    });
    return measured.requests / measured.seconds;
  });

/**
 * Processor time of the server for each request, in microseconds. It must not spin while it waits.
 * @param {Participant} participant
 * @param {Load} load
 */
const processorUs = (participant, load) =>
  withServer(participant, async ({ where, pid }) => {
    const times = { warmUpSeconds: WARM_UP_SECONDS, seconds };
    const measured = await apply(where, { ...load, ...times, pid });
    return (measured.serverSeconds * 1e6) / measured.requests;
  });

async function compareFilters() {
  console.log("| filter | load | / nbdkit's | / without | requests/s | nbdkit | without |");
  console.log("|---|---|---:|---:|---:|---:|---:|");
  const filters = Object.entries(FILTERS).filter(([filter]) => wantsFilter(filter));
  const cells = filters.flatMap(([, { loads }]) => Object.keys(loads).filter(wantsLoad));
  const progress = new Progress("filters", cells.length * rounds);
  for (const [filter, { ours, theirs, loads }] of filters) {
    const bare = { ...asyncnbd("memory", SIZE), isEmpty: ours.isEmpty === true };
    for (const [name, load] of Object.entries(loads)) {
      if (!wantsLoad(name)) continue;
      /** @type {number[][]} */
      const results = [];
      for (let i = 0; i < rounds; i++) {
        progress.step(`${filter}, ${name}, ${round(i, rounds)}`);
        const result = [];
        for (const one of [ours, theirs, bare]) result.push(await measure(one, load));
        results.push(result);
      }
      progress.clear();
      const of = (/** @type {number} */ i) => results.map((result) => result[i] ?? Number.NaN);
      const ratios = [1, 2].map((i) =>
        median(results.map((result) => (result[0] ?? 0) / (result[i] ?? 0))).toFixed(2),
      );
      const rates = [0, 1, 2].map((i) => Math.round(median(of(i))));
      console.log(`| ${filter} | ${name} | ${ratios.join(" | ")} | ${rates.join(" | ")} |`);
    }
  }
}

async function compareProcessorTime() {
  console.log("\n| a layer that only looks | / without | 95 % of the median | µs | without |");
  console.log("|---|---:|---:|---:|---:|");
  const layer = asyncnbd("--spin=0", "--filter=readonly", "memory", SIZE);
  const bare = asyncnbd("--spin=0", "-r", "memory", SIZE);
  const loads = Object.entries(READS).filter(([name]) => wantsLoad(name));
  const pairs = Number(options.pairs);
  const progress = new Progress("processor time", loads.length * pairs);
  for (const [name, load] of loads) {
    /** @type {[number, number][]} */
    const results = [];
    for (let i = 0; i < pairs; i++) {
      progress.step(`${name}, ${round(i, pairs)}`);
      // Each goes first in every other pair.
      const first = i % 2 === 0 ? await processorUs(bare, load) : undefined;
      const behind = await processorUs(layer, load);
      results.push([behind, first ?? (await processorUs(bare, load))]);
    }
    progress.clear();
    const ratios = results.map(([behind, without]) => behind / without);
    const [low, high] = intervalOfMedian(ratios);
    const us = [0, 1].map((i) => median(results.map((pair) => pair[i] ?? 0)).toFixed(2));
    const interval = `${low.toFixed(3)}–${high.toFixed(3)}`;
    console.log(`| ${name} | ${median(ratios).toFixed(3)} | ${interval} | ${us.join(" | ")} |`);
  }
}

/** @param {number} pid */
const threads = (pid) =>
  Number(/^Threads:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]);

async function waitManyAtOnce() {
  const DELAY_MS = 64;
  const depth = 1024;
  console.log(`\n| delay of ${DELAY_MS} ms | of what is possible | threads more than at rest |`);
  console.log("|---|---:|---:|");
  const server = asyncnbd("--filter=delay", "memory", SIZE, `rdelay=${DELAY_MS}ms`);
  for (const [name, bytes] of Object.entries({ "4K read": KIB4, "64K read": KIB4 << 4 }))
    await withServer(server, async ({ where, pid }) => {
      const times = { warmUpSeconds: 4 * WARM_UP_SECONDS, seconds: 4 * seconds };
      await apply(where, { bytes, depth: 1, count: 1 });
      const atRest = threads(pid);
      const load = apply(where, { bytes, depth, ...times });
      await new Promise((resolve) => setTimeout(resolve, 1000 * times.warmUpSeconds));
      const more = threads(pid) - atRest;
      const { requests, seconds: lasted } = await load;
      const part = requests / lasted / ((1000 / DELAY_MS) * depth);
      console.log(`| ${name} × ${depth} | ${(100 * part).toFixed(1)} % | ${more} |`);
    });
}

buildLoad();
console.log(JSON.stringify(environment()));
if (parts.includes("filters")) await compareFilters();
rmSync(LOG_FILE, { force: true });
if (parts.includes("processor")) await compareProcessorTime();
if (parts.includes("delay")) await waitManyAtOnce();
