// One side of a pair: a server, or no server at all, under the load of a cell.

import { execFileSync } from "node:child_process";
import { fill, SIZE_BYTES } from "../support/lineup.mjs";
import { apply, EXIT_NOT_OFFERED } from "../support/load.mjs";
import { median } from "../support/statistics.mjs";
import { KINDS } from "./cells.mjs";
import { WARM_UP_SECONDS } from "./plan.mjs";

/**
 * @typedef {import("./cells.mjs").Cell} Cell
 * @typedef {import("../support/servers.mjs").Running} Running
 * @typedef {import("../support/lineup.mjs").Participant} Participant
 *
 * @typedef {object} Side
 * @property {number} perSecond requests
 * @property {number | null} server how many processors it had; null: not known
 * @property {number} client the same
 * @property {number} [least] what the slowest of several connections got, as a part of the median one
 *
 * @typedef {object} Times
 * @property {number} seconds
 * @property {boolean} isCold what is measured is the first touch of the disk
 */

/** A first touch lasts as long as there is something left: one walk over the disk, or so many requests. */
const COLD_REQUESTS = 16_384;
const TOUCH = { bytes: 8192, depth: 64, sequential: true };

/** @param {import("../support/load.mjs").Measured} measured @param {boolean} knowsServer */
function sideOf(measured, knowsServer) {
  const { requests, seconds, serverSeconds, clientSeconds, answered } = measured;
  const digits = (/** @type {number} */ value) => Math.round(1000 * value) / 1000;
  return {
    perSecond: Math.round(requests / seconds),
    server: knowsServer ? digits(serverSeconds / seconds) : null,
    client: digits(clientSeconds / seconds),
    ...(answered.length > 1 && { least: digits(Math.min(...answered) / (median(answered) || 1)) }),
  };
}

/** @param {Cell} cell @param {Times} times */
function loadOf({ bytes, depth, kind, connections }, { seconds, isCold }) {
  const load = { bytes, depth, connections, ...KINDS[kind] };
  if (!isCold) return { ...load, seconds, warmUpSeconds: WARM_UP_SECONDS };
  return { ...load, sequential: true, count: Math.min(COLD_REQUESTS, SIZE_BYTES / bytes) };
}

/** @param {Running} running @param {Cell["transport"]} transport */
const targetOf = ({ pid, hasProcesses, exportName }, transport) => ({
  ...(!hasProcesses && { pid }),
  ...(exportName !== undefined && { exportName }),
  ...(transport === "tls" && { tls: true }),
});

/**
 * Before a warm disk is measured, all of it has been written, and read by this server.
 * @param {Participant} participant
 * @param {Running} running
 * @param {Cell["transport"]} transport
 */
export async function warm(participant, running, transport) {
  await fill(participant, running, { tls: transport === "tls" });
  const count = SIZE_BYTES / TOUCH.bytes;
  await apply(running.where, { ...TOUCH, count, ...targetOf(running, transport) });
}

/** What the system keeps of a file, or a device, is dropped. @param {string} file */
export function forget(file) {
  execFileSync("dd", [`of=${file}`, "oflag=nocache", "conv=notrunc,fdatasync", "count=0"], {
    stdio: "ignore",
  });
}

/**
 * Of a server that does not have the command, undefined.
 * @param {Participant} participant
 * @param {Running} running
 * @param {Cell} cell
 * @param {Times} times
 * @returns {Promise<Side | undefined>}
 */
export async function measureServer(participant, running, cell, times) {
  const target = targetOf(running, cell.transport);
  try {
    const measured = await apply(running.where, { ...loadOf(cell, times), ...target });
    const takesAway = cell.kind === "trim" || cell.kind === "zero";
    if (takesAway && !times.isCold)
      await fill({ ...participant, isEmpty: true }, running, { tls: cell.transport === "tls" });
    return sideOf(measured, !running.hasProcesses);
  } catch (error) {
    if (/** @type {{ code?: number }} */ (error).code === EXIT_NOT_OFFERED) return undefined;
    throw error;
  }
}

/**
 * The same bytes between two processes without a protocol.
 * @param {Cell} cell
 * @param {string | undefined} file
 * @param {Times} times
 */
export async function measureLimit(cell, file, times) {
  const ends = { bare: /** @type {"unix" | "tcp"} */ (cell.transport), ...(file && { file }) };
  return sideOf(await apply(undefined, { ...loadOf(cell, times), ...ends }), true);
}
