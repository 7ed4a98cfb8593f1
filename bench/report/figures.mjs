// The figures that documents have of each benchmark's results: tables and parts of sentences.

import { outcome } from "../matrix/report.mjs";
import { summarise } from "../matrix/summary.mjs";
import { DELAY_MS } from "../sections/slow.mjs";
import { median } from "../support/statistics.mjs";
import { table } from "./markdown.mjs";
import { bars, cell } from "./summary.mjs";

/** @typedef {import("./summary.mjs").Results} Results */

const MEMORY = ["asyncnbd memory", "nbdkit memory"];
const DISK = ["asyncnbd file (disk)", "nbdkit file (disk)"];

/**
 * What is compared under one load. A load that is a number is that many connections, with 32 reads in
 * flight on each.
 * @typedef {{ work: string, load: string | number, servers: readonly string[] }} Row
 * @type {Record<string, Row>}
 */
const ROWS = {
  depth1: {
    ...{ work: "`memory`, random 4 KiB reads, 1 in flight", load: "4K read × 1", servers: MEMORY },
  },
  depth32: { work: "32 in flight", load: "4K read × 32", servers: MEMORY },
  depth128: { work: "128 in flight", load: "4K read × 128", servers: MEMORY },
  connections4: {
    work: "32 in flight on each of 4 connections",
    ...{ load: "4K read, 4 connections × 32", servers: MEMORY },
  },
  connections1000: {
    ...{ work: "32 in flight on each of 1,000 connections", load: 1000, servers: MEMORY },
  },
  writes: {
    work: "`memory`, random 4 KiB writes, 32 in flight",
    ...{ load: "4K write × 32", servers: MEMORY },
  },
  largeReads: {
    work: "`memory`, 128 KiB reads, 16 in flight",
    ...{ load: "128K read × 16", servers: MEMORY },
  },
  largeWrites: {
    work: "`memory`, 128 KiB writes, 16 in flight",
    ...{ load: "128K write × 16", servers: MEMORY },
  },
  disk: {
    work: "`file` on a disk, cached, random 4 KiB reads, 32 in flight",
    ...{ load: "4K read × 32", servers: DISK },
  },
  diskReads: { work: "128 KiB reads, 16 in flight", load: "128K read × 16", servers: DISK },
  diskWrites: { work: "128 KiB writes, 16 in flight", load: "128K write × 16", servers: DISK },
  tmpfsWrites: {
    work: "`file` on tmpfs, 128 KiB writes, 16 in flight",
    ...{ load: "128K write × 16", servers: ["asyncnbd file", "nbdkit file"] },
  },
  theirPlugin: {
    work: "nbdkit's own `memory` plugin in both, 4 KiB reads, 32 in flight",
    ...{ load: "4K read × 32", servers: ["asyncnbd, nbdkit's memory .so", "nbdkit memory"] },
  },
  script: {
    work: "a disk in TypeScript, in nbdkit in Python, 4 KiB reads, 32 in flight",
    ...{ load: "4K read × 32", servers: ["asyncnbd ram.ts", "nbdkit python"] },
  },
};
const IN_README = ["depth1", "depth32", "connections1000", "largeReads", "largeWrites", "disk"];

/** @param {number} value in thousands; two digits that matter at least */
const thousands = (value) =>
  value >= 10_000 ? `${grouped(value / 1000)} k` : `${(value / 1000).toFixed(1)} k`;

const grouped = (/** @type {number} */ value) => Math.round(value).toLocaleString("en-US");
/** None beside a server that has answered nothing. */
const ratio = (/** @type {number} */ value) =>
  Number.isFinite(value) ? value.toFixed(value < 1 ? 2 : 1) : "—";

/** Requests a second. @param {Results} results @param {string} server @param {string | number} load */
function rate(results, server, load) {
  if (typeof load === "string") return cell(results, server, load)?.perSecond;
  const trials = results.scaling.filter(
    (trial) => trial.server === server && trial.connections === load,
  );
  return trials.length === 0 ? undefined : median(trials.map((trial) => trial.perSecond ?? 0));
}

/** @param {Results} results @param {readonly string[]} names of ROWS */
function throughput(results, names) {
  const rows = names.map((name) => {
    const { work, load, servers } = /** @type {Row} */ (ROWS[name]);
    const [ours = Number.NaN, theirs = Number.NaN] = servers.map((one) => rate(results, one, load));
    return [work, thousands(ours), thousands(theirs), ratio(ours / theirs)];
  });
  return table(["requests/s", "asyncnbd", "nbdkit", "ratio"], rows);
}

/**
 * Where figures come from.
 * @param {Record<string, unknown>} environment @param {string} how
 */
function provenance({ commit, date, cpu, kernel, node, nbdkit }, how) {
  const when = date === undefined ? "" : `, ${date}`;
  return `${how}, commit ${commit}${when}; ${cpu}, Linux ${kernel}, Node ${node}, ${nbdkit}.`;
}

const rounds = (/** @type {Results} */ { environment, settings }) =>
  provenance(environment, `Medians of ${settings.trials} rounds in one run`);

/** MiB/s of one client of a slow device. @param {Results} results @param {string} server */
const slow = ({ slow }, server) =>
  grouped(
    median(
      slow
        .filter((trial) => trial.server === server && trial.depth === 1024)
        .map((trial) => trial.mibPerSecond),
    ),
  );

/** @param {Results} results */
const slowDeviceBriefly = (results) =>
  `When each read of 128 KiB takes the device ${DELAY_MS} ms, a client with 1,024 reads in flight gets ` +
  `${slow(results, "asyncnbd, C ASYNC")} MiB/s; nbdkit gives it ${slow(results, "nbdkit, 256 threads")} ` +
  `with 256 threads and ${slow(results, "nbdkit, 16 threads")} with 16.`;

/** @param {Results} results @param {string} server @param {"startMs" | "restMib"} what */
const footprint = ({ footprint }, server, what) =>
  median(footprint.filter((trial) => trial.server === server).map((trial) => trial[what]));

/** A bar of the report. @param {Results} results @param {string} work */
function bar(results, work) {
  const found = bars(results).find((one) => one.work === work);
  if (found === undefined) throw new Error(`the published run has no figure for ${work}`);
  return { value: found.value.toFixed(2), range: found.range.map((one) => one.toFixed(2)) };
}

/**
 * @typedef {object} Latency what latency.mjs writes
 * @property {Record<string, unknown>} environment
 * @property {number} seconds
 * @property {import("../latency.mjs").Cell[]} cells
 */

/** @param {Latency} latency */
function slowDevice({ environment, seconds, cells }) {
  const columns = /** @type {const} */ ([
    ["serialised, read", "serialised", "read"],
    ["nbdkit -t 16", "nbdkit -t 16", "read"],
    ["nbdkit -t 256", "nbdkit -t 256", "read"],
    ["ASYNC, read", "ASYNC", "read"],
    ["ASYNC, write", "ASYNC", "write"],
  ]);
  const streams = [...new Set(cells.map((one) => one.streams))];
  const depths = [...new Set(cells.map((one) => one.depth))];
  const rows = streams.flatMap((stream) =>
    depths.map((depth) => [
      `${stream} × ${depth}`,
      ...columns.map(([, server, direction]) => {
        const found = cells.find(
          (one) =>
            one.server === server &&
            one.direction === direction &&
            one.streams === stream &&
            one.depth === depth,
        );
        return found === undefined ? "—" : grouped(found.mibPerSecond);
      }),
      grouped((stream * depth * 128) / 1024 / (DELAY_MS / 1000)),
    ]),
  );
  const asynchronous = cells.filter((one) => one.server === "ASYNC");
  const most = Math.max(...asynchronous.map((one) => one.threads));
  const idle = Math.max(...asynchronous.map((one) => one.idleThreads));
  return [
    table(["MiB/s, connections × in flight", ...columns.map(([title]) => title), "possible"], rows),
    `With ASYNC the process has ${most} threads at most, ${idle} of them before the first client. ` +
      provenance(environment, `One run, ${seconds} s each`),
  ].join("\n\n");
}

/**
 * @typedef {object} Compared what tls.mjs and plugins.mjs write
 * @property {Record<string, unknown>} environment
 * @property {number} seconds
 * @property {number} trials
 * @property {{ server: string, perSecond: number, bytes: number, depth: number,
 *   transport?: "tcp" | "unix", direction?: "read" | "write", ratio?: number }[]} results
 */

const trialsOf = (/** @type {Compared} */ { environment, seconds, trials }) =>
  provenance(environment, `Medians of ${trials} trials of ${seconds} s in one run`);

const size = (/** @type {number} */ bytes) => `${bytes >> 10} KiB`;

/** @param {Compared} run */
function encryption(run) {
  const { results } = run;
  const rows = results.flatMap(({ server, transport, bytes, depth, perSecond }) => {
    if (server !== "asyncnbd") return [];
    const peer = results.find(
      (one) =>
        one.server === "nbdkit" &&
        one.transport === transport &&
        one.bytes === bytes &&
        one.depth === depth,
    );
    const theirs = peer?.perSecond ?? Number.NaN;
    const where = transport === "tcp" ? "TCP" : "unix socket";
    return [
      [
        `${where}, ${size(bytes)} × ${depth}`,
        ...[thousands(perSecond), thousands(theirs), ratio(perSecond / theirs)],
      ],
    ];
  });
  return [
    table(["reads/s, size × in flight", "asyncnbd", "nbdkit", "ratio"], rows),
    trialsOf(run),
  ].join("\n\n");
}

/** @param {Compared} run */
function languages(run) {
  const { results } = run;
  const columns = {
    "`ram`, TypeScript": "ram.ts",
    "our `memory`, C": "asyncnbd memory (C)",
    "nbdkit python": "nbdkit python",
    "nbdkit perl": "nbdkit perl",
  };
  const rows = results
    .filter(({ server }) => server === "nbdkit memory (C)")
    .map(({ direction, bytes, depth }) => [
      `${direction} ${size(bytes)} × ${depth}`,
      ...Object.values(columns).map((server) => {
        const found = results.find(
          (one) =>
            one.server === server &&
            one.direction === direction &&
            one.bytes === bytes &&
            one.depth === depth,
        );
        return found?.ratio?.toFixed(2) ?? "—";
      }),
    ]);
  return [table(["size × in flight", ...Object.keys(columns)], rows), trialsOf(run)].join("\n\n");
}

/**
 * By the name of the place: the benchmark's results, and what is made of them. What begins with a line's
 * end is a block of its own.
 * @type {Record<string, { from: string, write: (results: any) => string }>}
 */
export const FIGURES = {
  "a read's processor time": {
    from: "results.json",
    write: (/** @type {Results} */ results) =>
      `${bar(results, "processor time a request, 4K read × 32").value} times`,
  },
  "the main loads": {
    from: "results.json",
    write: (/** @type {Results} */ results) =>
      `\n${throughput(results, IN_README)}\n\n${rounds(results)}\n${slowDeviceBriefly(results)}\n`,
  },
  "all loads": {
    from: "results.json",
    write: (/** @type {Results} */ results) =>
      `\n${throughput(results, Object.keys(ROWS))}\n\n${rounds(results)}\n`,
  },
  "what a process costs": {
    from: "results.json",
    write: (/** @type {Results} */ results) => {
      const [ours = "", theirs = ""] = MEMORY.map(
        (server) =>
          `${Math.round(footprint(results, server, "startMs"))} ms and ` +
          `${Math.round(footprint(results, server, "restMib"))} MiB`,
      );
      return `${ours} where nbdkit takes ${theirs}`;
    },
  },
  "large writes": {
    from: "results.json",
    write: (/** @type {Results} */ results) => {
      const { value, range } = bar(results, "memory, 128 KiB write, depth 16");
      return `${value} times nbdkit's in the published run (rounds ${range.join(" to ")})`;
    },
  },
  "cell by cell": {
    from: "matrix/results.json",
    write: (/** @type {import("../matrix/summary.mjs").Results} */ results) =>
      `\n${outcome(summarise(results))}\n`,
  },
  "a slow device": {
    from: "latency.json",
    write: (latency) => `\n${slowDevice(latency)}\n`,
  },
  encryption: { from: "tls.json", write: (run) => `\n${encryption(run)}\n` },
  languages: { from: "plugins.json", write: (run) => `\n${languages(run)}\n` },
};
