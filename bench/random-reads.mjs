// How many random 4 KiB reads a second does `asyncnbd memory` answer, beside `nbdkit memory`?
//   npm run bench -- [--seconds 3] [--trials 5] [--json FILE]

import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { apply, buildLoad } from "./support/load.mjs";
import { commands, withServer } from "./support/servers.mjs";
import { environment, median, spread } from "./support/statistics.mjs";

const DEPTHS = [1, 32, 128];
const BYTES = 4096;
const warmUpSeconds = 0.2;

const { values: options } = parseArgs({
  options: {
    seconds: { type: "string", default: "3" },
    trials: { type: "string", default: "5" },
    json: { type: "string" },
  },
});
const seconds = Number(options.seconds);
const trials = Number(options.trials);

/** @typedef {keyof typeof commands} ServerName */
const servers = /** @type {ServerName[]} */ (Object.keys(commands));

/** One trial in a fresh process. @param {ServerName} server @param {number} depth */
const trial = (server, depth) =>
  withServer([...commands[server], "memory", "256M"], (socket) =>
    apply(socket, { direction: "read", bytes: BYTES, depth, warmUpSeconds, seconds }),
  );

buildLoad();
/** @type {{ server: string, depth: number, perSecond: number, spread: number, p99Us: number }[]} */
const results = [];
for (const depth of DEPTHS) {
  /** @type {Record<string, import("./support/load.mjs").Measured[]>} */
  const measured = Object.fromEntries(servers.map((server) => [server, []]));
  // Alternating, so that what else the machine does hits both alike.
  for (let i = 0; i < trials; i++)
    for (const server of servers) measured[server]?.push(await trial(server, depth));
  for (const [server, runs] of Object.entries(measured)) {
    const rates = runs.map((run) => run.requests / run.seconds);
    const p99Us = median(runs.map((run) => run.p99Us));
    results.push({ server, depth, perSecond: median(rates), spread: spread(rates), p99Us });
  }
}

/** @param {string} server @param {number} depth */
const of = (server, depth) =>
  /** @type {(typeof results)[number]} */ (
    results.find((r) => r.server === server && r.depth === depth)
  );

console.log(`memory plugin, random ${BYTES}-byte reads over a unix socket, requests/s (spread)`);
console.log("depth        asyncnbd           nbdkit    ratio");
for (const depth of DEPTHS) {
  const [ours, theirs] = [of("asyncnbd", depth), of("nbdkit", depth)];
  const cell = (/** @type {typeof ours} */ r) =>
    `${Math.round(r.perSecond).toString().padStart(9)} (${(r.spread * 100).toFixed(0).padStart(2)} %)`;
  const ratio = (ours.perSecond / theirs.perSecond).toFixed(2);
  console.log(`${String(depth).padStart(5)}  ${cell(ours)}  ${cell(theirs)}  ${ratio.padStart(7)}`);
}
if (options.json !== undefined)
  writeFileSync(
    options.json,
    JSON.stringify({ environment: environment(), seconds, trials, results }, null, 2),
  );
