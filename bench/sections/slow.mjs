// A device that takes 64 ms for each request of 128 KiB: what is left of it by how many requests
// are in flight? latency.mjs asks the same in more detail.

import { fileURLToPath } from "node:url";
import { apply } from "../support/load.mjs";
import { Progress } from "../support/progress.mjs";
import { asyncnbd, nbdkit, withServer } from "../support/servers.mjs";

export const DELAY_MS = 64;
const DEPTHS = [1, 4, 16, 64, 256, 1024];
const QUICK_DEPTHS = [16, 256];
const BYTES = 128 << 10;
const SIZE = "256M";

const slowTs = fileURLToPath(new URL("../slow.ts", import.meta.url));
const nbdkitDelay = (/** @type {number} */ threads) =>
  nbdkit(
    ...["-t", String(threads), "--filter=delay", "memory", SIZE],
    ...[`rdelay=${DELAY_MS}ms`, `wdelay=${DELAY_MS}ms`],
  );

/** @type {Record<string, import("../support/servers.mjs").Server>} */
const SERVERS = {
  "asyncnbd, C ASYNC": asyncnbd("delay-memory", SIZE, `delay=${DELAY_MS}ms`),
  "asyncnbd, setTimeout": asyncnbd(slowTs, SIZE),
  "nbdkit, 16 threads": nbdkitDelay(16),
  "nbdkit, 256 threads": nbdkitDelay(256),
};

/**
 * @typedef {object} SlowTrial
 * @property {string} server
 * @property {number} depth
 * @property {number} mibPerSecond
 * @property {number} idealMibPerSecond
 * @property {number} p99Ms
 */

/** @param {import("./throughput.mjs").Plan} plan */
export async function measureSlow(plan) {
  /** @type {SlowTrial[]} */
  const trials = [];
  const depths = plan.isQuick ? QUICK_DEPTHS : DEPTHS;
  const steps = depths.length * Object.keys(SERVERS).length;
  const progress = new Progress(`a device that takes ${DELAY_MS} ms`, steps);
  for (const depth of depths)
    for (const [server, how] of Object.entries(SERVERS)) {
      progress.step(`${server}, ${depth} in flight`);
      await withServer(how, async ({ where }) => {
        const load = { bytes: BYTES, depth, warmUpSeconds: 0.5, seconds: plan.seconds };
        const { requests, seconds, p99Us } = await apply(where, load);
        trials.push({
          ...{ server, depth, p99Ms: p99Us / 1000 },
          mibPerSecond: (requests * BYTES) / 2 ** 20 / seconds,
          idealMibPerSecond: (depth * BYTES) / 2 ** 20 / (DELAY_MS / 1000),
        });
      });
    }
  progress.clear();
  return trials;
}
