// Medians, ratios and the bars that they must reach.

import { RAW_LOAD, RAW_NAME } from "../sections/throughput.mjs";
import { median, spread } from "../support/statistics.mjs";

/**
 * @typedef {object} Results
 * @property {Record<string, unknown>} environment
 * @property {{ seconds: number, trials: number }} settings
 * @property {import("../sections/throughput.mjs").Trial[]} throughput
 * @property {import("../sections/scaling.mjs").ScalingTrial[]} scaling
 * @property {import("../sections/footprint.mjs").FootprintTrial[]} footprint
 * @property {import("../sections/witnesses.mjs").Witness[]} witnesses
 * @property {import("../sections/slow.mjs").SlowTrial[]} slow
 *
 * @typedef {object} Bar
 * @property {string} work
 * @property {string} against
 * @property {"at least" | "at most"} sense
 * @property {number} bar
 * @property {number} value
 * @property {[number, number]} range of the rounds
 * @property {boolean} isMet
 * @property {string} [unit] of the value; else it is a ratio
 */

/** @typedef {import("../sections/throughput.mjs").Trial} Trial */

export const perSecond = (/** @type {Trial} */ trial) => trial.requests / trial.seconds;
const p99 = (/** @type {Trial} */ trial) => trial.p99Us;
const cpu = (/** @type {Trial} */ trial) => trial.serverSeconds / trial.requests;

/** @param {Results} results @param {string} server @param {string} load */
export const trialsOf = (results, server, load) =>
  results.throughput.filter((trial) => trial.server === server && trial.load === load);

/**
 * Of one server under one load, all rounds together; undefined if it was not measured.
 * @param {Results} results
 * @param {string} server
 * @param {string} load
 */
export function cell(results, server, load) {
  const trials = trialsOf(results, server, load);
  if (trials.length === 0) return undefined;
  const rates = trials.map(perSecond);
  const times = trials.map(cpu).filter((seconds) => seconds > 0);
  return {
    perSecond: median(rates),
    spread: spread(rates),
    p50Us: median(trials.map((trial) => trial.p50Us)),
    p90Us: median(trials.map((trial) => trial.p90Us)),
    p99Us: median(trials.map(p99)),
    p999Us: median(trials.map((trial) => trial.p999Us)),
    /** Of processor time a request, where it is known. */
    cpuUs: times.length === 0 ? undefined : 1e6 * median(times),
  };
}

/** @param {"at least" | "at most"} sense @param {number} value @param {number} bar */
const isMet = (sense, value, bar) => (sense === "at least" ? value >= bar : value <= bar);

/**
 * @param {Results} results
 * @param {{ work: string, load: string, ours?: string, peer?: string,
 *   sense?: "at least" | "at most", bar: number, of?: (trial: Trial) => number }} wanted
 * @returns {Bar[]} none if it was not measured
 */
function ratioBar(results, wanted) {
  const { work, load, bar, of = perSecond, sense = "at least" } = wanted;
  const { ours = "asyncnbd memory", peer = "nbdkit memory" } = wanted;
  const own = trialsOf(results, ours, load).map(of);
  const theirs = trialsOf(results, peer, load).map(of);
  if (own.length === 0 || theirs.length === 0) return [];
  const value = median(own) / median(theirs);
  const rounds = own.map((one, i) => one / /** @type {number} */ (theirs[i]));
  const range = /** @type {[number, number]} */ ([Math.min(...rounds), Math.max(...rounds)]);
  return [{ work, against: peer, sense, bar, value, range, isMet: isMet(sense, value, bar) }];
}

/**
 * What is left of the greatest throughput when there are more connections. That one connection has
 * less is no fall.
 * @param {Results} results
 * @returns {Bar[]}
 */
function scalingBar(results) {
  const trials = results.scaling.filter((trial) => trial.server === "asyncnbd memory");
  const counts = [...new Set(trials.map((trial) => trial.connections))];
  if (counts.length < 2) return [];
  const rates = counts.map((count) =>
    trials.filter((trial) => trial.connections === count).map((trial) => trial.perSecond ?? 0),
  );
  const medians = rates.map(median);
  const peak = medians.indexOf(Math.max(...medians));
  const left = (/** @type {number[]} */ of) => Math.min(...of.slice(peak)) / (of[peak] ?? 0);
  const value = left(medians);
  const rounds = (rates[0] ?? []).map((_, i) => left(rates.map((rate) => rate[i] ?? 0)));
  return [
    {
      ...{ work: `throughput with up to ${counts.at(-1)} connections: the least`, bar: 0.9, value },
      ...{ against: `its greatest, with ${counts[peak]}`, sense: "at least", isMet: value >= 0.9 },
      range: [Math.min(...rounds), Math.max(...rounds)],
    },
  ];
}

/** @param {Results} results @returns {Bar[]} */
function footprintBars(results) {
  const of = (/** @type {string} */ server) =>
    results.footprint.filter((trial) => trial.server === server);
  const own = of("asyncnbd memory");
  const theirs = of("nbdkit memory");
  if (own.length === 0 || theirs.length === 0) return [];
  const idle = own.map((trial) => trial.idleKib ?? Number.POSITIVE_INFINITY);
  const churn = own.map(
    (trial, i) => trial.connectionsPerSecond / (theirs[i]?.connectionsPerSecond ?? Number.NaN),
  );
  return [
    {
      ...{ work: "resident memory of an idle connection", against: "—", sense: "at most" },
      ...{ bar: 64, value: median(idle), unit: "KiB", isMet: median(idle) <= 64 },
      range: [Math.min(...idle), Math.max(...idle)],
    },
    {
      ...{ work: "connections opened, used once and closed a second" },
      ...{ against: "nbdkit memory", sense: "at least", bar: 1, value: median(churn) },
      ...{ range: [Math.min(...churn), Math.max(...churn)], isMet: median(churn) >= 1 },
    },
  ];
}

/** What was promised, beside what was measured. @param {Results} results */
export function bars(results) {
  const so = "asyncnbd, nbdkit's memory .so";
  const [read1, read32, read128] = ["4K read × 1", "4K read × 32", "4K read × 128"];
  const files = [
    { where: "tmpfs", suffix: "" },
    { where: "disk, cached", suffix: " (disk)" },
  ].flatMap(({ where, suffix }) => {
    const work = `file on ${where}, 4 KiB read, depth 32`;
    const ours = `asyncnbd file${suffix}`;
    return [
      { work, load: read32, ours, peer: `nbdkit file${suffix}`, bar: 2.5 },
      { work, load: read32, ours, peer: `qemu-nbd${suffix}`, bar: 6 },
    ];
  });
  const wanted = [
    { work: "memory, 4 KiB random read, depth 1", load: read1, bar: 1.3 },
    { work: "memory, 4 KiB random read, depth 32", load: read32, bar: 3 },
    { work: "memory, 4 KiB random read, depth 128", load: read128, bar: 4 },
    {
      work: "memory, 4 KiB random read, 4 connections × 32",
      load: "4K read, 4 connections × 32",
      bar: 5,
    },
    { work: "memory, 4 KiB random write, depth 32", load: "4K write × 32", bar: 2.5 },
    { work: "memory, 128 KiB read, depth 16", load: "128K read × 16", bar: 1.8 },
    { work: "memory, 128 KiB write, depth 16", load: "128K write × 16", bar: 1.5 },
    { work: "memory, 1 MiB read, depth 8", load: "1M read × 8", bar: 2 },
    { work: "memory, 1 MiB sequential read, depth 8", load: RAW_LOAD, peer: RAW_NAME, bar: 0.9 },
    { work: "nbdkit's memory plugin, 4 KiB read, depth 32", load: read32, ours: so, bar: 2.5 },
    {
      work: "nbdkit's memory plugin, 128 KiB read, depth 16",
      load: "128K read × 16",
      ours: so,
      bar: 1,
    },
    ...files,
    ...[read1, read32].map((load) => ({
      ...{ work: `p99 latency of ${load}`, load, bar: 0.7, of: p99 },
      sense: /** @type {const} */ ("at most"),
    })),
    {
      ...{ work: `processor time a request, ${read32}`, load: read32, bar: 0.4, of: cpu },
      sense: /** @type {const} */ ("at most"),
    },
  ];
  return [
    ...wanted.flatMap((one) => ratioBar(results, one)),
    ...scalingBar(results),
    ...footprintBars(results),
  ];
}
