// Every kind of disk under every kind of load, beside other servers, in pairs that are interleaved: how
// many times as fast, how certain that is, and how far from what the same bytes take without a server.
//   npm run bench:matrix -- [--against nbdkit,qemu-nbd,nbd-server] [--minutes 18] [--pairs N]
//                           [--seconds 0.3] [--cells "memory unix 4K 32 read 1|…"] [--plugins LIST]
//                           [--transports LIST] [--sizes LIST] [--depths LIST] [--loads LIST]
//                           [--connections LIST] [--parts cells,limit,witness] [--cold]
//                           [--merge FILE,…] [--out DIRECTORY] [--smoke]
// Without --minutes, --pairs and --seconds it fits in a quarter of an hour. --merge puts the results of
// earlier runs beside this one's; with --pairs 0 there are only those.

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { loadavg } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { select } from "./matrix/cells.mjs";
import { heatMap } from "./matrix/heat-map.mjs";
import { plan } from "./matrix/plan.mjs";
import { PEERS, PLUGINS, withFiles } from "./matrix/plugins.mjs";
import { report } from "./matrix/report.mjs";
import { groupsOf, hasLimit, limitName, measureMatrix } from "./matrix/run.mjs";
import { merge, summarise } from "./matrix/summary.mjs";
import { hasWitness, WITNESS_ROUNDS, WITNESS_SECONDS, witnessed } from "./matrix/witness.mjs";
import { buildLoad } from "./support/load.mjs";
import { numberOf, readOptions, wordsOf } from "./support/options.mjs";
import { environment } from "./support/statistics.mjs";

/**
 * @typedef {import("./matrix/summary.mjs").Results} Results
 * @typedef {import("./matrix/plugins.mjs").Peer} Peer
 */

/** Each transport, peer and part. */
const SMOKE = {
  cells: [
    "ram.ts unix 4K 32 read 1|ram.ts unix 128K 16 write 1|memory tls 64K 16 read 1",
    "file-ext4 tcp 512 1 mix 1|file-ext4 tcp 4K 8 fua 64|file-ext4 tcp 64K 16 trim 1",
  ].join("|"),
  ...{ against: PEERS.join(","), seconds: "0.1", pairs: "1", minutes: "1" },
};

const values = readOptions(import.meta.url, {
  against: { type: "string" },
  minutes: { type: "string" },
  pairs: { type: "string" },
  seconds: { type: "string" },
  cells: { type: "string" },
  plugins: { type: "string" },
  transports: { type: "string" },
  sizes: { type: "string" },
  depths: { type: "string" },
  loads: { type: "string" },
  connections: { type: "string" },
  parts: { type: "string", default: "cells,limit,witness" },
  cold: { type: "boolean", default: false },
  merge: { type: "string", default: "" },
  smoke: { type: "boolean", default: false },
  out: {
    type: "string",
    default: fileURLToPath(new URL("results/latest/matrix", import.meta.url)),
  },
});
const options = values.smoke ? { ...SMOKE, ...values } : values;

/** @param {"minutes" | "pairs" | "seconds"} name */
const given = (name) => {
  const text = options[name];
  return text === undefined ? undefined : numberOf(name, text);
};
const seconds = 60 * (given("minutes") ?? 18);
const wanted = { pairs: given("pairs"), seconds: given("seconds") };
const parts = wordsOf("parts", options.parts, ["cells", "limit", "witness"]);
const peers = wordsOf("against", options.against ?? "nbdkit", PEERS);

/** @param {import("./matrix/plugins.mjs").Files} files */
async function measure(files) {
  const started = performance.now();
  const [loadBefore = Number.NaN] = loadavg();
  const groups = groupsOf(cells, peers, files);
  const pairs = groups.flatMap((group) => group.pairs);
  const limits = new Set(
    groups.flatMap(({ row, pairs }) =>
      pairs.flatMap(({ cell }) => (hasLimit(row, cell) ? [limitName(cell, row.limit)] : [])),
    ),
  );
  const able = parts.includes("witness") && hasWitness() ? witnessed(cells) : [];
  const chosen = options.smoke ? able.slice(0, 1) : able;
  const witnesses = pairs.filter(({ cell }) => chosen.includes(cell)).length;
  const fitted = plan(
    {
      pairs: pairs.length,
      servers: groups.reduce((sum, { participants }) => sum + Object.keys(participants).length, 0),
      limits: parts.includes("limit") ? limits.size : 0,
    },
    seconds - 2 * witnesses * WITNESS_ROUNDS * WITNESS_SECONDS,
    wanted,
  );
  console.error(`${pairs.length} cells, ${fitted.pairs} pairs of each, ${fitted.seconds} s a side`);
  const measured = await measureMatrix(groups, {
    ...fitted,
    ...{ isCold: options.cold, hasLimits: parts.includes("limit"), witnessed: chosen },
    deadlineMs: started + 1000 * seconds,
  });
  const settings = {
    ...fitted,
    disks: options.cold ? "cold" : "warm",
    "load average before": loadBefore.toFixed(2),
  };
  return { runs: [{ environment: environment(), settings }], ...measured };
}

/** @type {Results[]} */
const all = options.merge
  .split(",")
  .filter((file) => file !== "")
  .map((file) => JSON.parse(readFileSync(file, "utf8")));
const cells = select(options, PLUGINS);
if (options.pairs !== "0") {
  buildLoad();
  const used = (/** @type {"plugin" | "transport"} */ key) => cells.map((cell) => cell[key]);
  all.push(await withFiles(used("plugin"), used("transport"), measure));
}
const results = merge(all);
const summaries = summarise(results);
const text = report(results);
mkdirSync(options.out, { recursive: true });
writeFileSync(join(options.out, "results.json"), JSON.stringify(results));
writeFileSync(join(options.out, "report.md"), text);
if (summaries.length > 0) writeFileSync(join(options.out, "matrix.svg"), heatMap(summaries));
console.log(text);
const behind = summaries.filter(({ verdict }) => verdict === "behind").length;
console.log(`${behind} of ${summaries.length} cells certainly behind; ${options.out}`);
if (results.gaps.some(({ isFailure }) => isFailure)) process.exitCode = 1;
