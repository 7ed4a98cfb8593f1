// Compares servers whose data is in a store that is another process: rates, latencies, and the
// processor time of server and store for each request.

import { apply } from "./load.mjs";
import { processorSeconds } from "./nginx.mjs";
import { inTurns, Progress } from "./progress.mjs";
import { withServer } from "./servers.mjs";
import { median } from "./statistics.mjs";

/**
 * @param {import("./servers.mjs").Server} server
 * @param {import("./load.mjs").Load} load
 * @param {number} [store] the process whose time is the store's, if one has all of it
 * @returns {Promise<import("../remote.mjs").Run>}
 */
export const measure = (server, load, store) =>
  withServer(server, async ({ where, pid }) => {
    const before = store === undefined ? Number.NaN : processorSeconds(store);
    const run = await apply(where, { ...load, pid });
    const usPerRequest = 1e6 / run.requests;
    return {
      perSecond: run.requests / run.seconds,
      serverUs: run.serverSeconds * usPerRequest,
      ...(store !== undefined && {
        storeUs: (processorSeconds(store) - before) * usPerRequest,
      }),
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
  const runs = await inTurns(
    servers,
    trials,
    (step) => progress.step(step),
    (server) => measure(server, { ...load, seconds }, store),
  );
  progress.clear();
  return { load: what, runs };
}

/**
 * The median of one contestant's runs.
 * @param {import("../remote.mjs").Group | undefined} group
 * @param {string} name
 * @param {"perSecond" | "serverUs" | "p50Us" | "p99Us"} key
 */
export const medianOf = (group, name, key) =>
  median((group?.runs[name] ?? []).map((run) => run[key] ?? Number.NaN));
