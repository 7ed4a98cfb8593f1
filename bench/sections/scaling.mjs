// What becomes of the throughput with more and more connections.

import { fill } from "../support/lineup.mjs";
import { apply } from "../support/load.mjs";
import { Progress, round } from "../support/progress.mjs";
import { withServer } from "../support/servers.mjs";

export const CONNECTIONS = [1, 4, 16, 64, 256, 1000];
const DEPTH = 32;
const BYTES = 4096;
const NAMES = ["asyncnbd memory", "asyncnbd ram.ts", "nbdkit memory", "qemu-nbd", "nbd-server"];

/**
 * @typedef {object} ScalingTrial
 * @property {string} server
 * @property {number} connections
 * @property {number | null} perSecond null: it could not
 * @property {number} p99Us
 */

/**
 * @param {Record<string, import("../support/lineup.mjs").Participant>} participants
 * @param {import("./throughput.mjs").Plan} plan
 */
export async function measureScaling(participants, plan) {
  /** @type {ScalingTrial[]} */
  const trials = [];
  const servers = NAMES.filter((name) => name in participants);
  const cells = servers.length * plan.passes * CONNECTIONS.length;
  const progress = new Progress("connections", plan.trials * cells);
  for (let i = 0; i < plan.trials; i++) {
    for (const server of servers) {
      const participant = participants[server];
      if (participant === undefined) continue;
      await withServer(participant, async (running) => {
        await fill(participant, running);
        // One number of connections after the other, for the machine's speed drifts.
        for (let pass = 0; pass < plan.passes; pass++)
          for (const connections of CONNECTIONS) {
            progress.step(`${round(i, plan.trials)}, ${server}, ${connections}`);
            trials.push({ server, connections, ...(await measure(running, connections, plan)) });
          }
      });
    }
  }
  progress.clear();
  return trials;
}

/**
 * @param {import("../support/servers.mjs").Running} running
 * @param {number} connections
 * @param {import("./throughput.mjs").Plan} plan
 */
async function measure({ where, exportName }, connections, plan) {
  const load = { bytes: BYTES, depth: DEPTH, connections, seconds: plan.seconds };
  const named = exportName !== undefined && { exportName };
  try {
    const { requests, seconds, p99Us } = await apply(where, {
      ...load,
      ...named,
      warmUpSeconds: 0.3,
    });
    return { perSecond: requests / seconds, p99Us };
  } catch (error) {
    plan.log(`  ${connections} connections: ${String(error).split("\n")[0]}`);
    return { perSecond: null, p99Us: Number.NaN };
  }
}
