// A file of nginx's, on this machine and 20 ms away, through our plugin http and nbdkit's curl.

import { atLeast, atMost } from "../support/bars.mjs";
import { addLimit, withDelay } from "../support/link.mjs";
import { withNginx } from "../support/nginx.mjs";
import { compare, medianOf } from "../support/remote-store.mjs";
import { asyncnbd, canRun, nbdkit } from "../support/servers.mjs";

const DISK_BYTES = 256 << 20;
const ONE_WAY_MS = 10;
const MANY_SMALL = { bytes: 4096, depth: 64 };
const LOADS = [MANY_SMALL, { bytes: 4096, depth: 1 }, { bytes: 128 << 10, depth: 16 }];

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
 */
async function compareLoads(where, url, store, loads, plan) {
  const groups = [];
  for (const load of loads) {
    const what = `http, ${where}: ${nameOf(load)} reads`;
    groups.push(await compare(what, contestants(url), store, { ...load, readPercent: 100 }, plan));
  }
  return groups;
}

/** @param {import("../remote.mjs").Plan} plan @returns {Promise<import("../remote.mjs").Part>} */
export const measure = (plan) =>
  withNginx(DISK_BYTES, async ({ url, port, worker }) => {
    const near = await compareLoads("loopback", url, worker, LOADS, plan);
    const far = await withDelay(port, ONE_WAY_MS, async (proxied) => {
      const through = url.replace(`:${port}/`, `:${proxied}/`);
      const groups = await compareLoads("20 ms away", through, worker, LOADS.slice(0, 2), plan);
      await addLimit(groups[0], proxied, "/disk.img", MANY_SMALL, DISK_BYTES, plan);
      return groups;
    });
    const ours = medianOf(near[0], "asyncnbd http", "serverUs");
    const theirs = medianOf(near[0], "nbdkit curl", "serverUs");
    const rate = medianOf(far[0], "asyncnbd http", "perSecond");
    return {
      groups: [...near, ...far],
      bars: [
        atMost("http on loopback: processor time of 4 KiB × 64, nbdkit curl = 1", ours / theirs, 2),
        atLeast("http 20 ms away: requests a second at 4 KiB × 64, of 3,200", rate, 2800),
      ],
    };
  });
