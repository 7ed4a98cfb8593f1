// How many requests a second, and how long each takes: every server under every load.

import { fill } from "../support/lineup.mjs";
import { apply } from "../support/load.mjs";
import { Progress, round } from "../support/progress.mjs";
import { withServer } from "../support/servers.mjs";

/** @typedef {import("../support/load.mjs").Load} Load */

const KIB4 = 4 << 10;
const KIB128 = 128 << 10;
const MIB = 1 << 20;

export const DEPTHS = [1, 4, 16, 32, 64, 128];

/** By their names in the report. @type {Record<string, Load>} */
export const LOADS = {
  ...Object.fromEntries(DEPTHS.map((depth) => [`4K read × ${depth}`, { bytes: KIB4, depth }])),
  "4K read, 4 connections × 32": { bytes: KIB4, depth: 32, connections: 4 },
  "4K write × 32": { bytes: KIB4, depth: 32, readPercent: 0 },
  "128K read × 16": { bytes: KIB128, depth: 16 },
  "128K write × 16": { bytes: KIB128, depth: 16, readPercent: 0 },
  "1M read × 8": { bytes: MIB, depth: 8 },
  "1M sequential read × 8": { bytes: MIB, depth: 8, sequential: true },
};

/** @type {Load} */
const RAW = { mode: "raw", bytes: MIB };
export const RAW_NAME = "a unix socket, no server";
export const RAW_LOAD = "1M sequential read × 8";

/** Of a trial of less than this, the first requests would be much. */
const WARM_UP_SECONDS = 0.2;

/**
 * @typedef {import("../support/load.mjs").Measured & { server: string, load: string }} Trial
 *
 * @typedef {object} Plan
 * @property {number} seconds of each load
 * @property {number} trials
 * @property {boolean} isQuick only to see that it runs
 * @property {number} passes of what is sensitive to drift, in each trial
 * @property {(name: string) => boolean} wantsServer
 * @property {(name: string) => boolean} wantsLoad
 * @property {(line: string) => void} log
 */

/**
 * One server after the other goes through all loads, and then all of them again: so what else
 * the machine does hits all alike.
 * @param {Record<string, import("../support/lineup.mjs").Participant>} participants
 * @param {Plan} plan
 */
export async function measureThroughput(participants, plan) {
  const times = { warmUpSeconds: WARM_UP_SECONDS, seconds: plan.seconds };
  const loads = Object.entries(LOADS).filter(([name]) => plan.wantsLoad(name));
  /** @type {Trial[]} */
  const trials = [];
  const cells = Object.keys(participants).length * loads.length;
  const progress = new Progress("throughput", plan.trials * cells);
  for (let i = 0; i < plan.trials; i++) {
    for (const [server, participant] of Object.entries(participants))
      await withServer(participant, async (running) => {
        await fill(participant, running);
        const { where, pid, hasProcesses, exportName } = running;
        const target = {
          ...(!hasProcesses && { pid }),
          ...(exportName !== undefined && { exportName }),
        };
        for (const [load, how] of loads) {
          progress.step(`${round(i, plan.trials)}, ${server}, ${load}`);
          trials.push({ server, load, ...(await apply(where, { ...how, ...times, ...target })) });
        }
      });
    if (plan.wantsLoad(RAW_LOAD) && plan.wantsServer(RAW_NAME))
      trials.push({
        server: RAW_NAME,
        load: RAW_LOAD,
        ...(await apply(undefined, { ...RAW, ...times })),
      });
  }
  progress.clear();
  return trials;
}
