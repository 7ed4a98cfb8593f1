// A file of nginx's, on this machine and 20 ms away, through our plugin http and nbdkit's curl.

import { withDelay } from "../support/delay-proxy.mjs";
import { apply } from "../support/load.mjs";
import { processorSeconds, withNginx } from "../support/nginx.mjs";
import { Progress, round } from "../support/progress.mjs";
import { asyncnbd, canRun, nbdkit, withServer } from "../support/servers.mjs";
import { median } from "../support/statistics.mjs";

const DISK_BYTES = 256 << 20;
const ONE_WAY_MS = 10;
const LOADS = [
  { bytes: 4096, depth: 64 },
  { bytes: 4096, depth: 1 },
  { bytes: 128 << 10, depth: 16 },
];

/** @param {{ bytes: number, depth: number }} load */
const nameOf = ({ bytes, depth }) => `${bytes >> 10} KiB × ${depth}`;

/** @param {string} url */
const contestants = (url) => ({
  "asyncnbd http": asyncnbd("http", url),
  ...(canRun("nbdkit", "--dump-plugin", "curl") && { "nbdkit curl": nbdkit("curl", url) }),
});

/**
 * @param {string} where
 * @param {string} url
 * @param {number} store the process whose time is the store's
 * @param {readonly { bytes: number, depth: number }[]} loads
 * @param {import("../remote.mjs").Plan} plan
 * @returns {Promise<import("../remote.mjs").Group[]>}
 */
async function compare(where, url, store, loads, plan) {
  const servers = contestants(url);
  const steps = loads.length * plan.trials * Object.keys(servers).length;
  const progress = new Progress(`http, ${where}`, steps);
  const groups = [];
  for (const load of loads) {
    /** @type {Record<string, import("../remote.mjs").Run[]>} */
    const runs = {};
    // Alternating, so that what else the machine does hits all alike.
    for (let i = 0; i < plan.trials; i++)
      for (const [name, server] of Object.entries(servers)) {
        progress.step(`${nameOf(load)}, ${round(i, plan.trials)}, ${name}`);
        const run = await withServer(server, async ({ where: socket, pid }) => {
          const before = processorSeconds(store);
          const measured = await apply(socket, {
            ...load,
            readPercent: 100,
            seconds: plan.seconds,
            pid,
          });
          return { ...measured, storeSeconds: processorSeconds(store) - before };
        });
        const perRequest = 1e6 / run.requests;
        runs[name] = [
          ...(runs[name] ?? []),
          {
            perSecond: run.requests / run.seconds,
            serverUs: run.serverSeconds * perRequest,
            storeUs: run.storeSeconds * perRequest,
            p50Us: run.p50Us,
            p99Us: run.p99Us,
          },
        ];
      }
    groups.push({ load: `http, ${where}: ${nameOf(load)} reads`, runs });
  }
  progress.clear();
  return groups;
}

/** @param {import("../remote.mjs").Group | undefined} group @param {string} name @param {"perSecond" | "serverUs"} key */
const of = (group, name, key) => median((group?.runs[name] ?? []).map((run) => run[key]));

/** @param {import("../remote.mjs").Plan} plan @returns {Promise<import("../remote.mjs").Part>} */
export const measure = (plan) =>
  withNginx(DISK_BYTES, async ({ url, port, worker }) => {
    const near = await compare("loopback", url, worker, LOADS, plan);
    const far = await withDelay(port, ONE_WAY_MS, (proxied) => {
      const through = url.replace(`:${port}/`, `:${proxied}/`);
      return compare("20 ms away", through, worker, LOADS.slice(0, 2), plan);
    });
    const ours = of(near[0], "asyncnbd http", "serverUs");
    const theirs = of(near[0], "nbdkit curl", "serverUs");
    const rate = of(far[0], "asyncnbd http", "perSecond");
    return {
      groups: [...near, ...far],
      bars: [
        {
          what: "http on loopback: processor time of 4 KiB × 64, nbdkit curl = 1",
          ...{ value: ours / theirs, limit: 2, isMet: ours / theirs <= 2 },
        },
        {
          what: "http 20 ms away: requests a second at 4 KiB × 64, of 3,200",
          ...{ value: rate, limit: 2800, isMet: rate >= 2800 },
        },
      ],
    };
  });
