// This checkout against another one, both built: what a change has gained or cost, with certainty.
// Fresh servers in turn, one pair after the other, so that what else the machine does hits both.
//   npm run bench:pairs -- --other DIRECTORY [--pairs 20] [--seconds 0.5]
//                          [--servers WORDS] [--loads WORDS] [--processor]
// With --processor, it is requests in a second of the server's processor time that are compared: what
// else the machine does changes that less.

import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { LOADS } from "./sections/throughput.mjs";
import { fill, lineup, withDisks } from "./support/lineup.mjs";
import { apply, buildLoad } from "./support/load.mjs";
import { containsAny, Misuse, readOptions } from "./support/options.mjs";
import { Progress, round } from "./support/progress.mjs";
import { withServer } from "./support/servers.mjs";
import { intervalOfMedian, median } from "./support/statistics.mjs";

/** @typedef {import("./support/load.mjs").Load} Load */

const WARM_UP_SECONDS = 0.2;
const KIB4 = 4 << 10;
const KIB128 = 128 << 10;

/** Of many connections, of clients that understand holes, and writes that are placed. @type {Record<string, Load>} */
const MORE_LOADS = {
  ...Object.fromEntries(
    [64, 256, 1000].flatMap((connections) =>
      [1, 32].map((depth) => [
        `4K read, ${connections} connections × ${depth}`,
        { bytes: KIB4, depth, connections },
      ]),
    ),
  ),
  "64K write × 16": { bytes: 64 << 10, depth: 16, readPercent: 0 },
  "128K structured read × 16": { bytes: KIB128, depth: 16, structured: true },
  "1M structured sequential read × 8": {
    ...{ bytes: 1 << 20, depth: 8 },
    ...{ sequential: true, structured: true },
  },
};

const options = readOptions(import.meta.url, {
  other: { type: "string" },
  pairs: { type: "string", default: "20" },
  seconds: { type: "string", default: "0.5" },
  servers: { type: "string", default: "asyncnbd memory" },
  loads: { type: "string", default: "" },
  processor: { type: "boolean", default: false },
});
if (options.other === undefined) throw new Misuse("--other=DIRECTORY is missing: a built checkout");
const pairs = Number(options.pairs);
const seconds = Number(options.seconds);

/** @type {typeof import("./support/lineup.mjs")} */
const other = await import(pathToFileURL(resolve(options.other, "bench/support/lineup.mjs")).href);

/**
 * @param {import("./support/lineup.mjs").Participant} participant
 * @param {Load} load
 */
const measure = (participant, load) =>
  withServer(participant, async (running) => {
    await fill(participant, running);
    const times = { warmUpSeconds: WARM_UP_SECONDS, seconds };
    const measured = await apply(running.where, { ...load, ...times, pid: running.pid });
    return measured.requests / (options.processor ? measured.serverSeconds : measured.seconds);
  });

buildLoad();
console.log("| server | load | this / other | 95 % of the median | requests/s | other |");
console.log("|---|---|---:|---:|---:|---:|");
await withDisks(async (files) => {
  const ours = lineup(files);
  const theirs = other.lineup(files);
  const servers = Object.keys(ours).filter(
    (name) => name.startsWith("asyncnbd") && containsAny(options.servers)(name),
  );
  const loads = Object.entries({ ...LOADS, ...MORE_LOADS }).filter(([name]) =>
    containsAny(options.loads)(name),
  );
  const progress = new Progress("pairs", servers.length * loads.length * pairs);
  for (const server of servers) {
    const [one, another] = [ours[server], theirs[server]];
    if (one === undefined || another === undefined) continue;
    for (const [name, load] of loads) {
      /** @type {[number, number][]} */
      const results = [];
      for (let i = 0; i < pairs; i++) {
        progress.step(`${server}, ${name}, ${round(i, pairs)}`);
        // Each goes first in every other pair.
        const first = i % 2 === 0 ? await measure(another, load) : undefined;
        const mine = await measure(one, load);
        results.push([mine, first ?? (await measure(another, load))]);
      }
      progress.clear();
      const ratios = results.map(([mine, yours]) => mine / yours);
      const [low, high] = intervalOfMedian(ratios);
      const rates = [0, 1].map((i) => Math.round(median(results.map((pair) => pair[i] ?? 0))));
      console.log(
        `| ${server} | ${name} | ${median(ratios).toFixed(3)} | ${low.toFixed(3)}–${high.toFixed(3)} | ${rates.join(" | ")} |`,
      );
    }
  }
});
