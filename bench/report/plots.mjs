// The report's pictures, as SVG.

import { parse, View } from "vega";
import { compile } from "vega-lite";
import { DEPTHS } from "../sections/throughput.mjs";
import { median } from "../support/statistics.mjs";
import { cell, trialsOf } from "./summary.mjs";

/** @typedef {import("./summary.mjs").Results} Results */

/** Ours in greens, so that they are found at once. */
const COLOURS = {
  "asyncnbd memory": "#0b6e4f",
  "asyncnbd file": "#4aa67f",
  "asyncnbd async-file": "#8fd0b3",
  "asyncnbd ram.ts": "#2f9e44",
  "asyncnbd, C ASYNC": "#0b6e4f",
  "asyncnbd, setTimeout": "#4aa67f",
  "nbdkit memory": "#c92a2a",
  "nbdkit file": "#f08c00",
  "nbdkit null": "#e8590c",
  "nbdkit python": "#e599f7",
  "nbdkit, 16 threads": "#c92a2a",
  "nbdkit, 256 threads": "#f08c00",
  "qemu-nbd": "#1971c2",
  "nbd-server": "#868e96",
  ideal: "#adb5bd",
};

/** @param {string[]} servers */
const colour = (servers) => ({
  field: "server",
  type: "nominal",
  title: null,
  sort: servers,
  scale: {
    domain: servers,
    range: servers.map((server) => COLOURS[/** @type {keyof typeof COLOURS} */ (server)] ?? "#555"),
  },
});

const named = (/** @type {readonly object[]} */ values) =>
  Object.keys(COLOURS).filter((server) =>
    values.some((value) => /** @type {{ server: string }} */ (value).server === server),
  );

/** @param {object} specification of Vega-Lite */
async function draw(specification) {
  const full = { background: "white", padding: 10, width: 560, height: 300, ...specification };
  const compiled = compile(/** @type {import("vega-lite").TopLevelSpec} */ (full)).spec;
  return new View(parse(compiled), { renderer: "none" }).toSVG();
}

/** @param {string} title @param {object[]} values @param {object} x @param {object} y */
const lines = (title, values, x, y) =>
  draw({
    title,
    data: { values },
    mark: { type: "line", point: true },
    encoding: { x, y, color: colour(named(values)) },
  });

/** @param {Results} results */
function byDepth(results) {
  const values = Object.keys(COLOURS).flatMap((server) =>
    DEPTHS.flatMap((depth) => {
      const found = cell(results, server, `4K read × ${depth}`);
      return found === undefined ? [] : [{ server, depth, perSecond: found.perSecond }];
    }),
  );
  return lines(
    "Random 4 KiB reads a second, one connection",
    values,
    {
      ...{ field: "depth", type: "quantitative", title: "requests in flight" },
      ...{ scale: { type: "log", base: 2 }, axis: { values: DEPTHS } },
    },
    { field: "perSecond", type: "quantitative", title: "requests/s", axis: { format: "~s" } },
  );
}

/** @param {Results} results */
function percentiles(results) {
  const values = Object.keys(COLOURS).flatMap((server) =>
    [1, 32].flatMap((depth) => {
      const found = cell(results, server, `4K read × ${depth}`);
      if (found === undefined) return [];
      const { p50Us: p50, p90Us: p90, p99Us: p99, p999Us } = found;
      return Object.entries({ p50, p90, p99, "p99.9": p999Us }).map(([percentile, us]) => ({
        ...{ server, percentile, us, depth: `${depth} in flight` },
      }));
    }),
  );
  const servers = named(values);
  return draw({
    title: "Latency of a 4 KiB read, by percentile",
    data: { values },
    width: 300,
    mark: { type: "line", point: true },
    encoding: {
      column: { field: "depth", type: "nominal", title: null },
      x: { field: "percentile", type: "ordinal", title: null, axis: { labelAngle: 0 } },
      y: { field: "us", type: "quantitative", title: "microseconds", scale: { type: "log" } },
      color: colour(servers),
    },
  });
}

const PER_DECADE = 20;

/** Rounds put together, in steps that are equal on a logarithmic axis. @param {Results} results @param {string} server @param {string} load */
function distribution(results, server, load) {
  /** @type {Map<number, number>} */
  const counts = new Map();
  let total = 0;
  for (const { histogram } of trialsOf(results, server, load))
    for (const [us, count] of histogram) {
      const step = Math.round(Math.log10(us) * PER_DECADE);
      counts.set(step, (counts.get(step) ?? 0) + count);
      total += count;
    }
  const steps = [...counts.keys()];
  const all = Array.from(
    { length: Math.max(...steps) - Math.min(...steps) + 1 },
    (_, i) => Math.min(...steps) + i,
  );
  return all.map((step) => ({
    ...{ server, us: 10 ** (step / PER_DECADE) },
    part: (counts.get(step) ?? 0) / total,
  }));
}

/** @param {Results} results */
function latencies(results) {
  const load = "4K read × 32";
  const values = ["asyncnbd memory", "nbdkit memory", "qemu-nbd"]
    .filter((server) => trialsOf(results, server, load).length > 0)
    .flatMap((server) => distribution(results, server, load));
  return draw({
    title: "How long a 4 KiB read takes, with 32 in flight",
    data: { values },
    mark: { type: "area", opacity: 0.5, line: true, interpolate: "monotone" },
    encoding: {
      x: { field: "us", type: "quantitative", title: "microseconds", scale: { type: "log" } },
      y: {
        ...{ field: "part", type: "quantitative", title: "part of all requests" },
        ...{ stack: null, axis: { format: "%" } },
      },
      color: colour(named(values)),
    },
  });
}

/** @param {Results} results */
function byConnections(results) {
  const keys = [...new Set(results.scaling.map(({ server }) => server))];
  const values = keys.flatMap((server) => {
    const trials = results.scaling.filter((trial) => trial.server === server);
    return [...new Set(trials.map(({ connections }) => connections))].flatMap((connections) => {
      const rates = trials
        .filter((trial) => trial.connections === connections)
        .flatMap((trial) => (trial.perSecond === null ? [] : [trial.perSecond]));
      return rates.length === 0 ? [] : [{ server, connections, perSecond: median(rates) }];
    });
  });
  return lines(
    "Random 4 KiB reads a second, 32 in flight on each connection",
    values,
    { field: "connections", type: "quantitative", scale: { type: "log" } },
    { field: "perSecond", type: "quantitative", title: "requests/s", axis: { format: "~s" } },
  );
}

/** @param {Results} results */
function bySlowDepth({ slow }) {
  const ideal = slow
    .filter((trial) => trial.server === slow[0]?.server)
    .map(({ depth, idealMibPerSecond }) => ({
      ...{ server: "ideal", depth, mibPerSecond: idealMibPerSecond },
    }));
  const log = { type: "log", base: 2 };
  return lines(
    "128 KiB reads from a device that takes 64 ms for each",
    [...slow, ...ideal],
    {
      ...{ field: "depth", type: "quantitative", title: "requests in flight", scale: log },
      axis: { values: ideal.map(({ depth }) => depth) },
    },
    { field: "mibPerSecond", type: "quantitative", title: "MiB/s", scale: { type: "log" } },
  );
}

/** Those for which something was measured, by file name. @param {Results} results */
export async function plots(results) {
  /** @type {[string, boolean, (results: Results) => Promise<string>][]} */
  const all = [
    ["throughput", results.throughput.length > 0, byDepth],
    ["percentiles", results.throughput.length > 0, percentiles],
    ["distribution", results.throughput.length > 0, latencies],
    ["connections", results.scaling.length > 0, byConnections],
    ["slow-device", results.slow.length > 0, bySlowDepth],
  ];
  /** @type {Record<string, string>} */
  const drawn = {};
  for (const [name, isMeasured, drawing] of all)
    if (isMeasured) drawn[`${name}.svg`] = await drawing(results);
  return drawn;
}
