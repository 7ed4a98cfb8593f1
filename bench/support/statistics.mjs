// Medians and spreads of a few trials, and where they were measured.

import { execFileSync } from "node:child_process";
import { cpus, release } from "node:os";

/** @param {readonly number[]} values */
export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (/** @type {number} */ index) => sorted[index] ?? Number.NaN;
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? at(middle) : (at(middle - 1) + at(middle)) / 2;
}

/** The distance from the least to the greatest, as a part of the median. @param {readonly number[]} values */
export const spread = (values) => (Math.max(...values) - Math.min(...values)) / median(values);

/** @param {string} file @param {string[]} args */
function firstLine(file, ...args) {
  try {
    return execFileSync(file, args, {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    }).split("\n")[0];
  } catch {
    return "unknown";
  }
}

export const environment = () => ({
  commit: firstLine("git", "rev-parse", "--short", "HEAD"),
  date: new Date().toISOString().slice(0, 10),
  cpu: `${cpus().length} × ${cpus()[0]?.model ?? "unknown"}`,
  kernel: release(),
  node: process.version,
  nbdkit: firstLine("nbdkit", "--version"),
});

/**
 * Between which two of the values the true median lies with a probability of 95 % at least,
 * whatever their distribution: as many lie below it as a coin that is tossed for each shows heads.
 * @param {readonly number[]} values
 * @returns {[low: number, high: number]}
 */
export function intervalOfMedian(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const count = sorted.length;
  let low = 0;
  let chance = 2 ** -count; // that exactly `low` values lie below the median
  for (let below = chance; 2 * below <= 0.05; below += chance) {
    low++;
    chance *= (count - low + 1) / low;
  }
  const at = (/** @type {number} */ index) => sorted[index] ?? Number.NaN;
  return [at(Math.max(0, low - 1)), at(count - Math.max(1, low))];
}
