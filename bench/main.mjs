// asyncnbd and its peers, measured on this machine: results/latest/ gets the figures and a report.
//   npm run bench -- [--quick] [--seconds 1] [--trials 5] [--only throughput,scaling,…]
//                    [--servers WORDS] [--loads WORDS] [--out DIRECTORY]

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { markdown } from "./report/markdown.mjs";
import { plots } from "./report/plots.mjs";
import { bars } from "./report/summary.mjs";
import { measureFootprint } from "./sections/footprint.mjs";
import { measureScaling } from "./sections/scaling.mjs";
import { measureSlow } from "./sections/slow.mjs";
import { measureThroughput } from "./sections/throughput.mjs";
import { measureWitnesses } from "./sections/witnesses.mjs";
import { lineup, withDisks } from "./support/lineup.mjs";
import { buildLoad } from "./support/load.mjs";
import { containsAny, numberOf, readOptions, wordsOf } from "./support/options.mjs";
import { environment } from "./support/statistics.mjs";

const SECTIONS = ["throughput", "scaling", "footprint", "slow", "witnesses"];

const options = readOptions(import.meta.url, {
  quick: { type: "boolean", default: false },
  seconds: { type: "string" },
  trials: { type: "string" },
  only: { type: "string", default: SECTIONS.join(",") },
  servers: { type: "string", default: "" },
  loads: { type: "string", default: "" },
  out: {
    type: "string",
    default: fileURLToPath(new URL("results/latest", import.meta.url)),
  },
});

const plan = {
  seconds: numberOf("seconds", options.seconds ?? (options.quick ? "0.2" : "1")),
  trials: numberOf("trials", options.trials ?? (options.quick ? "1" : "5")),
  isQuick: options.quick,
  passes: options.quick ? 1 : 4,
  wantsServer: containsAny(options.servers),
  wantsLoad: containsAny(options.loads),
  log: (/** @type {string} */ line) => console.error(line),
};
const sections = wordsOf("only", options.only, SECTIONS);
const wants = (/** @type {string} */ section) => sections.includes(section);

buildLoad();
const results = await withDisks(async (files) => {
  const participants = Object.fromEntries(
    Object.entries(lineup(files)).filter(([name]) => plan.wantsServer(name)),
  );
  return {
    environment: environment(),
    settings: { seconds: plan.seconds, trials: plan.trials },
    throughput: wants("throughput") ? await measureThroughput(participants, plan) : [],
    scaling: wants("scaling") ? await measureScaling(participants, plan) : [],
    footprint: wants("footprint") ? await measureFootprint(participants, plan) : [],
    slow: wants("slow") ? await measureSlow(plan) : [],
    witnesses: wants("witnesses") ? await measureWitnesses(participants, plan) : [],
  };
});

const drawn = await plots(results);
const report = markdown(results, Object.keys(drawn));
mkdirSync(options.out, { recursive: true });
for (const [name, picture] of Object.entries(drawn))
  writeFileSync(join(options.out, name), picture);
writeFileSync(join(options.out, "results.json"), JSON.stringify(results));
writeFileSync(join(options.out, "report.md"), report);
console.log(report);
const all = bars(results);
console.log(`${all.filter((bar) => bar.isMet).length} of ${all.length} bars met; ${options.out}`);
