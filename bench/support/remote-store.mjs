// Compares servers whose data is in a store that is another process: rates, latencies, and the
// processor time of server and store for each request.

import { apply } from "./load.mjs";
import { processorSeconds } from "./nginx.mjs";
import { Progress, round } from "./progress.mjs";
import { withServer } from "./servers.mjs";
import { median } from "./statistics.mjs";

/**
 * @param {import("./servers.mjs").Server} server
 * @param {number} store the process whose time is the store's
 * @param {import("./load.mjs").Load} load
 * @returns {Promise<import("../remote.mjs").Run>}
 */
const measure = (server, store, load) =>
  withServer(server, async ({ where, pid }) => {
    const before = processorSeconds(store);
    const run = await apply(where, { ...load, pid });
    const usPerRequest = 1e6 / run.requests;
    return {
      perSecond: run.requests / run.seconds,
      serverUs: run.serverSeconds * usPerRequest,
      storeUs: (processorSeconds(store) - before) * usPerRequest,
      p50Us: run.p50Us,
      p99Us: run.p99Us,
    };
  });

/**
 * @param {string} what for the report
 * @param {Record<string, import("./servers.mjs").Server>} servers
 * @param {number} store the process whose time is the store's
 * @param {import("./load.mjs").Load} load
 * @param {import("../remote.mjs").Plan} plan
 * @returns {Promise<import("../remote.mjs").Group>}
 */
export async function compare(what, servers, store, load, { trials, seconds }) {
  const progress = new Progress(what, trials * Object.keys(servers).length);
  /** @type {Record<string, import("../remote.mjs").Run[]>} */
  const runs = {};
  // Alternating, so that what else the machine does hits all alike.
  for (let i = 0; i < trials; i++)
    for (const [name, server] of Object.entries(servers)) {
      progress.step(`${round(i, trials)}, ${name}`);
      runs[name] = [...(runs[name] ?? []), await measure(server, store, { ...load, seconds })];
    }
  progress.clear();
  return { load: what, runs };
}

/**
 * The median of one contestant's runs.
 * @param {import("../remote.mjs").Group | undefined} group
 * @param {string} name
 * @param {"perSecond" | "serverUs"} key
 */
export const medianOf = (group, name, key) =>
  median((group?.runs[name] ?? []).map((run) => run[key]));
