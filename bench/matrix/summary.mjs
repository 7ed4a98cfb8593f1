// What the pairs of a cell say together: a ratio and how certain it is, and what held both up.

import { intervalOfMedian, median } from "../support/statistics.mjs";

/**
 * @typedef {import("./run.mjs").Pair} Pair
 * @typedef {import("./run.mjs").Gap} Gap
 * @typedef {import("./sides.mjs").Side} Side
 *
 * @typedef {object} Results of one run, or of several put together
 * @property {{ environment: Record<string, unknown>, settings: Record<string, unknown> }[]} runs
 * @property {Pair[]} pairs
 * @property {Gap[]} gaps
 *
 * @typedef {object} SideSummary
 * @property {number} perSecond
 * @property {number} serverUs of processor time a request; NaN: not known
 * @property {number} clientUs
 * @property {"client" | "server" | "both" | "neither" | "unknown"} busy who has no time left
 * @property {number} [least] the slowest of several connections, as a part of the median one
 *
 * @typedef {object} Summary
 * @property {string} cell
 * @property {string} peer
 * @property {number} count of pairs
 * @property {number} ratio
 * @property {[number, number]} interval in which the median lies
 * @property {"ahead" | "behind" | "open"} verdict
 * @property {SideSummary} ours
 * @property {SideSummary} theirs
 * @property {number} [ofLimit]
 * @property {{ ratio: number, count: number }} [witness]
 */

/** With fewer pairs their least and greatest are no interval of 95 %. */
const CERTAIN_PAIRS = 6;
/** Of a processor: whoever has had so much of it is what the other one waits for. */
const BUSY = 0.9;

/** @param {number | null} server @param {number} client @returns {SideSummary["busy"]} */
export function busySide(server, client) {
  if (server === null) return client >= BUSY ? "client" : "unknown";
  if (client >= BUSY) return server >= BUSY ? "both" : "client";
  return server >= BUSY ? "server" : "neither";
}

/** @param {readonly Side[]} sides @returns {SideSummary} */
function summariseSide(sides) {
  const middle = (/** @type {(side: Side) => number} */ value) => median(sides.map(value));
  const server = middle((side) => side.server ?? Number.NaN);
  const leasts = sides.flatMap(({ least }) => (least === undefined ? [] : [least]));
  return {
    perSecond: middle((side) => side.perSecond),
    serverUs: middle((side) => (1e6 * (side.server ?? Number.NaN)) / side.perSecond),
    clientUs: middle((side) => (1e6 * side.client) / side.perSecond),
    busy: busySide(
      Number.isNaN(server) ? null : server,
      middle((side) => side.client),
    ),
    ...(leasts.length > 0 && { least: median(leasts) }),
  };
}

/** @param {number} count @param {[number, number]} interval @returns {Summary["verdict"]} */
function judge(count, [low, high]) {
  if (count < CERTAIN_PAIRS) return "open";
  if (high < 1) return "behind";
  return low > 1 ? "ahead" : "open";
}

/** @param {[Pair, ...Pair[]]} pairs of one cell and peer @returns {Summary} */
function summarisePairs(pairs) {
  const ratios = pairs.map(({ ours, theirs }) => ours.perSecond / theirs.perSecond);
  const interval = intervalOfMedian(ratios);
  const ofLimits = pairs.flatMap(({ ours, limit }) =>
    limit === undefined ? [] : [ours.perSecond / limit.perSecond],
  );
  const seen = pairs.flatMap(({ witness }) =>
    witness === undefined ? [] : [witness.ours / witness.theirs],
  );
  return {
    ...{ cell: pairs[0].cell, peer: pairs[0].peer, count: pairs.length },
    ...{ ratio: median(ratios), interval, verdict: judge(pairs.length, interval) },
    ours: summariseSide(pairs.map(({ ours }) => ours)),
    theirs: summariseSide(pairs.map(({ theirs }) => theirs)),
    ...(ofLimits.length > 0 && { ofLimit: median(ofLimits) }),
    ...(seen.length > 0 && { witness: { ratio: median(seen), count: seen.length } }),
  };
}

/** In the order in which cells were first measured. @param {Results} results */
export function summarise({ pairs }) {
  /** @type {Map<string, [Pair, ...Pair[]]>} */
  const cells = new Map();
  for (const pair of pairs) {
    const name = `${pair.cell} ${pair.peer}`;
    const known = cells.get(name);
    if (known === undefined) cells.set(name, [pair]);
    else known.push(pair);
  }
  return [...cells.values()].map(summarisePairs);
}

/** Several runs as one. @param {readonly Results[]} all @returns {Results} */
export const merge = (all) => ({
  runs: all.flatMap(({ runs }) => runs),
  pairs: all.flatMap(({ pairs }) => pairs),
  gaps: all.flatMap(({ gaps }) => gaps),
});
