// A device that takes 64 ms for each request of 128 KiB: what do clients get of it, by how many
// requests in flight, from each way to serve it?
// Takes a quarter of an hour; --quick half a minute, for no more than to see that it runs.
//   npm run bench:latency -- [--seconds 2] [--depths 1,16,64,256,1024] [--streams 1,2,4]
//                            [--servers NAME;…] [--quick] [--json FILE]

import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { apply, buildLoad, buildPlugin } from "./support/load.mjs";
import { numbersOf, readOptions, wordsOf } from "./support/options.mjs";
import { Progress } from "./support/progress.mjs";
import { asyncnbd, nbdkit, withServer } from "./support/servers.mjs";
import { environment } from "./support/statistics.mjs";

const DELAY_MS = 64;
const BYTES = 128 << 10;
const SIZE = "256M";
const WARM_UP_SECONDS = 1; // the first rounds come in bursts
const SAMPLE_EVERY_MS = 50;

const options = readOptions(import.meta.url, {
  seconds: { type: "string", default: "2" },
  depths: { type: "string", default: "1,16,64,256,1024" },
  streams: { type: "string", default: "1,2,4" },
  servers: { type: "string" },
  quick: { type: "boolean", default: false },
  json: { type: "string" },
});
const seconds = options.quick ? 0.5 : Number(options.seconds);
const depths = options.quick ? [64] : numbersOf("depths", options.depths);
const streamCounts = options.quick ? [1] : numbersOf("streams", options.streams);

/** @param {string} relative */
const path = (relative) => fileURLToPath(new URL(relative, import.meta.url));

const nbdkitDelay = (/** @type {number} */ threads) =>
  nbdkit(
    ...["-t", String(threads), "--filter=delay", "memory", SIZE],
    ...[`rdelay=${DELAY_MS}ms`, `wdelay=${DELAY_MS}ms`],
  );
/** @type {Record<string, () => import("./support/servers.mjs").Server>} */
const allServers = {
  serialised: () => asyncnbd(buildPlugin("slow-disk"), `delay-ms=${DELAY_MS}`),
  "nbdkit -t 16": () => nbdkitDelay(16),
  "nbdkit -t 256": () => nbdkitDelay(256),
  ASYNC: () => asyncnbd("delay-memory", SIZE, `delay=${DELAY_MS}ms`),
  setTimeout: () => asyncnbd(path("slow.ts"), SIZE),
  "ASYNC, no delay": () => asyncnbd("delay-memory", SIZE),
};
const names = Object.keys(allServers);
const chosen = wordsOf("servers", options.servers ?? names.join(";"), names, ";");

/**
 * @typedef {object} Cell
 * @property {string} server
 * @property {"read" | "write"} direction
 * @property {number} depth
 * @property {number} streams
 * @property {number} mibPerSecond
 * @property {number} p50Ms
 * @property {number} p99Ms
 * @property {number} p999Ms
 * @property {number} threads at most
 * @property {number} idleThreads before the first client
 * @property {number} residentMib at most
 */

const threadsOf = (/** @type {number} */ pid) => readdirSync(`/proc/${pid}/task`).length;

/** @param {number} pid */
function peakResidentMib(pid) {
  const match = /^VmHWM:\s*(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"));
  return Number(match?.[1]) / 1024;
}

/**
 * @param {string} server
 * @param {"read" | "write"} direction
 * @param {number} depth
 * @param {number} streams
 * @returns {Promise<Cell>}
 */
function measure(server, direction, depth, streams) {
  const start = /** @type {() => import("./support/servers.mjs").Server} */ (allServers[server]);
  return withServer(start(), async ({ where, pid }) => {
    const idleThreads = threadsOf(pid);
    // A disk that was never written to is all one page, which caches better than any real one.
    if (server !== "serialised")
      await apply(where, { readPercent: 0, bytes: 1 << 20, depth: 16, seconds: 1 });
    let threads = 0;
    const sampling = setInterval(() => {
      threads = Math.max(threads, threadsOf(pid));
    }, SAMPLE_EVERY_MS);
    const readPercent = direction === "read" ? 100 : 0;
    const load = { readPercent, bytes: BYTES, depth, connections: streams, seconds };
    const measured = await apply(where, { ...load, warmUpSeconds: WARM_UP_SECONDS });
    clearInterval(sampling);
    return {
      ...{ server, direction, depth, streams, threads, idleThreads },
      mibPerSecond: (measured.requests * BYTES) / measured.seconds / 2 ** 20,
      p50Ms: measured.p50Us / 1000,
      p99Ms: measured.p99Us / 1000,
      p999Ms: measured.p999Us / 1000,
      residentMib: peakResidentMib(pid),
    };
  });
}

/** What the asynchronous model promises. @param {Cell} cell @param {Cell | undefined} undelayed */
function bars(cell, undelayed) {
  const ideal = (cell.depth * cell.streams * BYTES) / 2 ** 20 / (DELAY_MS / 1000);
  const saturation = 0.8 * (undelayed?.mibPerSecond ?? Number.POSITIVE_INFINITY);
  return {
    ideal,
    throughput: cell.mibPerSecond >= Math.min(0.95 * ideal, saturation),
    threads: cell.threads - cell.idleThreads <= 8,
    latency: ideal >= saturation || cell.p99Ms <= 1.1 * DELAY_MS,
  };
}

buildLoad();
/** @type {Cell[]} */
const cells = [];
let missed = 0;
const progress = new Progress("latency", 2 * streamCounts.length * depths.length * chosen.length);
console.log(`requests of ${BYTES >> 10} KiB, a device that takes ${DELAY_MS} ms for each\n`);
console.log(
  "| | streams | depth | server | MiB/s | p50 ms | p99 ms | p999 ms | threads | MiB | bars |",
);
console.log("|---|---:|---:|---|---:|---:|---:|---:|---:|---:|---|");
for (const direction of /** @type {const} */ (["read", "write"]))
  for (const streams of streamCounts)
    for (const depth of depths) {
      /** @type {Cell[]} */
      const row = [];
      for (const server of chosen) {
        progress.step(`${direction}, ${streams} streams × ${depth}, ${server}`);
        row.push(await measure(server, direction, depth, streams));
      }
      progress.clear();
      const undelayed = row.find((cell) => cell.server === "ASYNC, no delay");
      for (const cell of row) {
        let verdict = "";
        if (cell.server === "ASYNC") {
          const { ideal, ...met } = bars(cell, undelayed);
          const failures = Object.entries(met).flatMap(([name, ok]) => (ok ? [] : [name]));
          missed += failures.length;
          verdict = `${((100 * cell.mibPerSecond) / ideal).toFixed(1)} % of ideal${
            failures.length === 0 ? "" : `; MISSED: ${failures.join(", ")}`
          }`;
        }
        const numbers = [cell.mibPerSecond, cell.p50Ms, cell.p99Ms, cell.p999Ms];
        console.log(
          `| ${direction} | ${streams} | ${depth} | ${cell.server} | ${numbers
            .map((number) => number.toFixed(1))
            .join(" | ")} | ${cell.threads} | ${cell.residentMib.toFixed(0)} | ${verdict} |`,
        );
      }
      cells.push(...row);
    }
console.log(missed === 0 ? "\nASYNC met every bar." : `\nASYNC missed ${missed} bars.`);
if (options.json !== undefined)
  writeFileSync(
    options.json,
    JSON.stringify({ environment: environment(), seconds, cells }, null, 2),
  );
