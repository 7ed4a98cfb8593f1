// Disks that are elsewhere, beside nbdkit's and others: requests a second, and processor time.
//   npm run bench:remote -- [--parts http,s3,rbd] [--seconds 2] [--trials 5] [--json FILE]

import { writeFileSync } from "node:fs";
import { buildLoad } from "./support/load.mjs";
import { readOptions, wordsOf } from "./support/options.mjs";
import { environment, median, spread } from "./support/statistics.mjs";

/**
 * @typedef {object} Plan
 * @property {number} seconds of each run
 * @property {number} trials of each, interleaved
 * @property {(text: string) => void} log
 *
 * @typedef {object} Run
 * @property {number} perSecond
 * @property {number} serverUs of processor time for a request
 * @property {number} [storeUs] of the store's
 * @property {number} [p50Us]
 * @property {number} [p99Us]
 *
 * @typedef {object} Group of contestants at one load
 * @property {string} load
 * @property {Record<string, Run[]>} runs by contestant, of which ours is the first
 *
 * @typedef {object} Bar
 * @property {string} what
 * @property {number} value
 * @property {number} limit
 * @property {boolean} isMet
 *
 * @typedef {object} Part what a module of sections/remote-NAME.mjs exports as `measure`
 * @property {Group[]} groups
 * @property {Bar[]} bars
 */

const PARTS = ["http", "s3", "rbd"];
const moduleOf = (/** @type {string} */ part) =>
  new URL(`sections/remote-${part}.mjs`, import.meta.url);

const options = readOptions(import.meta.url, {
  parts: { type: "string", default: PARTS.join(",") },
  seconds: { type: "string", default: "2" },
  trials: { type: "string", default: "5" },
  json: { type: "string" },
});
const parts = wordsOf("parts", options.parts, PARTS);

/** @type {Plan} */
const plan = {
  seconds: Number(options.seconds),
  trials: Number(options.trials),
  log: (text) => console.error(text),
};

/** @param {Run[]} runs @param {"perSecond" | "serverUs" | "storeUs" | "p50Us" | "p99Us"} key */
const middle = (runs, key) => median(runs.map((run) => run[key] ?? Number.NaN));

/** @param {number} value @param {(value: number) => string} words of what was measured */
const cell = (value, words) => (Number.isNaN(value) ? "" : words(value));

/** @param {Group} group */
function show({ load, runs }) {
  console.log(`\n${load}`);
  for (const [name, list] of Object.entries(runs)) {
    const rates = list.map((run) => run.perSecond);
    const cells = [
      `${Math.round(median(rates))}/s`.padStart(10),
      `(${(spread(rates) * 100).toFixed(0)} %)`.padStart(8),
      cell(middle(list, "serverUs"), (us) => `${us.toFixed(1)} µs`).padStart(11),
      cell(middle(list, "storeUs"), (us) => `${us.toFixed(1)} µs there`).padStart(18),
      cell(middle(list, "p50Us"), (us) => `p50 ${(us / 1000).toFixed(2)} ms`).padStart(15),
      cell(middle(list, "p99Us"), (us) => `p99 ${(us / 1000).toFixed(2)} ms`).padStart(15),
    ];
    console.log(`  ${name.padEnd(24)}${cells.join("")}`);
  }
}

buildLoad();
/** @type {Record<string, Part>} */
const results = {};
for (const part of parts) {
  const { measure } = await import(moduleOf(part).href);
  const result = /** @type {Part} */ (await measure(plan));
  results[part] = result;
  for (const group of result.groups) show(group);
  for (const { what, value, limit, isMet } of result.bars)
    console.log(`${isMet ? "met" : "NOT MET"}: ${what}: ${value.toFixed(2)}, limit ${limit}`);
}
if (options.json !== undefined)
  writeFileSync(options.json, JSON.stringify({ environment: environment(), ...plan, results }));
