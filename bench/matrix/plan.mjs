// How many pairs, and how long each of their measurements, so that a run ends in time.

export const WARM_UP_SECONDS = 0.1;
/** With fewer, no interval has the median with 95 % certainty. */
const LEAST_PAIRS = 6;
const MOST_PAIRS = 30;
const LEAST_SECONDS = 0.1;
const USUAL_SECONDS = 0.3;
/** Of starting the load generator, and of starting a server and touching its disk. */
const START_SECONDS = 0.05;
const SERVER_SECONDS = 1.2;
/** The limit is measured in one round of so many, the first among them. */
export const ROUNDS_A_LIMIT = 3;

/**
 * @typedef {object} Work of a round
 * @property {number} pairs
 * @property {number} servers that are started
 * @property {number} limits that are measured, if they are
 */

/** @param {Work} work @param {number} seconds of each measurement */
export function roundSeconds({ pairs, servers, limits }, seconds) {
  const measurement = seconds + WARM_UP_SECONDS + START_SECONDS;
  const limit = (measurement + SERVER_SECONDS / 4) / ROUNDS_A_LIMIT;
  return pairs * 2 * measurement + servers * SERVER_SECONDS + limits * limit;
}

/**
 * What is given stays as it is: time that is up ends a run in any case.
 * @param {Work} work
 * @param {number} available seconds
 * @param {{ pairs?: number | undefined, seconds?: number | undefined }} given
 */
export function plan(work, available, given) {
  const fitting = (/** @type {number} */ seconds) =>
    Math.floor(available / roundSeconds(work, seconds));
  const lengths =
    given.seconds === undefined ? [USUAL_SECONDS, 0.2, LEAST_SECONDS] : [given.seconds];
  const wanted = given.pairs ?? LEAST_PAIRS;
  const seconds = lengths.find((length) => fitting(length) >= wanted) ?? lengths.at(-1);
  const length = seconds ?? USUAL_SECONDS;
  return {
    seconds: length,
    pairs: given.pairs ?? Math.min(MOST_PAIRS, Math.max(1, fitting(length))),
  };
}
