// What a server takes before it does anything: time to start, memory at rest, memory for an idle
// connection, time for a connection to come and go.

import { readFileSync } from "node:fs";
import { these } from "../support/lineup.mjs";
import { apply, whileIdle } from "../support/load.mjs";
import { inTurns, Progress } from "../support/progress.mjs";
import { withServer } from "../support/servers.mjs";

const NAMES = ["asyncnbd memory", "asyncnbd ram.ts", "nbdkit memory", "qemu-nbd", "nbd-server"];
const IDLE_CONNECTIONS = 500;
/** A busy connection's memory is given back after a second without traffic. */
const SETTLE_MS = 2500;

/**
 * @typedef {object} FootprintTrial
 * @property {string} server
 * @property {number} startMs until it greets its first client
 * @property {number} restMib of resident memory, without a client
 * @property {number | null} idleKib a connection; null: it could not have as many
 * @property {number} connectionsPerSecond each opened, used once and closed
 * @property {number} churnP99Us
 */

/** Of a process and its children, which share what they have not changed. @param {number} pid @returns {number} */
function residentKib(pid) {
  const status = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
  const own = Number(/^Pss:\s*(\d+)/m.exec(status)?.[1]);
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim();
  return children === ""
    ? own
    : children.split(" ").reduce((sum, child) => sum + residentKib(Number(child)), own);
}

const settled = () => new Promise((resolve) => setTimeout(resolve, SETTLE_MS));

/** @param {import("../support/servers.mjs").Running} running */
async function idleKib({ where, pid }) {
  try {
    // What the first connection brings is not for each of them.
    return await whileIdle(where, 1, async () => {
      await settled();
      const before = residentKib(pid);
      return whileIdle(where, IDLE_CONNECTIONS, async () => {
        await settled();
        return (residentKib(pid) - before) / IDLE_CONNECTIONS;
      });
    });
  } catch {
    return null;
  }
}

/**
 * @param {Record<string, import("../support/lineup.mjs").Participant>} participants
 * @param {import("./throughput.mjs").Plan} plan
 */
export async function measureFootprint(participants, plan) {
  /** @type {FootprintTrial[]} */
  const trials = [];
  const servers = these(participants, NAMES);
  const progress = new Progress("footprint", plan.trials * Object.keys(servers).length);
  const begin = (/** @type {string} */ step) => progress.step(step);
  await inTurns(servers, plan.trials, begin, (participant, server) =>
    withServer(participant, async (running) => {
      const { where, pid, startMs, exportName } = running;
      const named = exportName !== undefined && { exportName };
      await settled();
      const restMib = residentKib(pid) / 1024;
      const idle = exportName === undefined ? await idleKib(running) : null;
      const churn = await apply(where, { mode: "churn", seconds: plan.seconds, ...named });
      trials.push({
        ...{ server, startMs, restMib, idleKib: idle },
        connectionsPerSecond: churn.requests / churn.seconds,
        churnP99Us: churn.p99Us,
      });
    }),
  );
  progress.clear();
  return trials;
}
