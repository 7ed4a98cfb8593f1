// What a measurement has to reach, and whether it does.

/** @typedef {import("../remote.mjs").Bar} Bar */

/** @param {string} what @param {number} value @param {number} limit @returns {Bar} */
export const atLeast = (what, value, limit) => ({ what, value, limit, isMet: value >= limit });

/** @param {string} what @param {number} value @param {number} limit @returns {Bar} */
export const atMost = (what, value, limit) => ({ what, value, limit, isMet: value <= limit });
