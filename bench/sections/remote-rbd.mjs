// An image on Ceph, by three ways from the same client library and the same configuration: the library
// itself (fio's engine for it), our `rbd` plugin and qemu-nbd. The cluster keeps its data in memory, on
// this machine: it shares the two processors with whom it serves.

import { execFile, execFileSync } from "node:child_process";
import { appendFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { atLeast, atMost } from "../support/bars.mjs";
import { inTurns, Progress } from "../support/progress.mjs";
import { measure as measureServer, medianOf } from "../support/remote-store.mjs";
import { asyncnbd } from "../support/servers.mjs";

const script = fileURLToPath(new URL("../../scripts/ceph", import.meta.url));
const IMAGE = "disk";
const SIZE_MIB = 256;
const WARM_UP_SECONDS = 0.5;
const OURS = "asyncnbd rbd";
const LIBRARY = "librbd (fio)";
const QEMU = "qemu-nbd";

/** @typedef {Required<Pick<import("../support/load.mjs").Load, "bytes" | "depth" | "readPercent">>} Load */

/** @type {Record<string, Load>} */
const LOADS = {
  "4K read × 1": { bytes: 4 << 10, depth: 1, readPercent: 100 },
  "4K read × 64": { bytes: 4 << 10, depth: 64, readPercent: 100 },
  "4K write × 64": { bytes: 4 << 10, depth: 64, readPercent: 0 },
  "128K read × 16": { bytes: 128 << 10, depth: 16, readPercent: 100 },
  "128K write × 16": { bytes: 128 << 10, depth: 16, readPercent: 0 },
};

/** @param {string} conf */
const servers = (conf) => ({
  [OURS]: asyncnbd("rbd", `rbd/${IMAGE}`, `conf=${conf}`),
  [QEMU]: {
    command: (/** @type {import("../support/servers.mjs").Place} */ { where }) => [
      ...["qemu-nbd", "--persistent", "--shared=64", "--format=raw", `--socket=${where}`],
      `rbd:rbd/${IMAGE}:conf=${conf}`,
    ],
  },
});

/** @typedef {import("../remote.mjs").Run} Run */

/**
 * The library, driven by fio in its own process.
 * @param {string} conf
 * @param {Load} load
 * @param {number} seconds
 * @returns {Promise<Run>}
 */
async function withLibrary(conf, { bytes, depth, readPercent }, seconds) {
  const { stdout } = await promisify(execFile)(
    "fio",
    [
      ...["--name=librbd", "--ioengine=rbd", "--pool=rbd", `--rbdname=${IMAGE}`, "--thread"],
      ...["--clientname=admin", "--direct=1", "--output-format=json", "--time_based"],
      ...[`--bs=${bytes}`, `--iodepth=${depth}`, `--runtime=${seconds}`],
      ...[`--rw=${readPercent > 0 ? "randread" : "randwrite"}`, `--ramp_time=${WARM_UP_SECONDS}`],
      // By default fio's percentiles leave out the library's own call, which ours include.
      ...["--clat_percentiles=0", "--lat_percentiles=1"],
    ],
    { env: { ...process.env, CEPH_CONF: conf } },
  );
  const [job] = JSON.parse(stdout.slice(stdout.indexOf("{"))).jobs;
  const { iops, lat_ns: latency } = readPercent > 0 ? job.read : job.write;
  return {
    perSecond: iops,
    serverUs: Number.NaN, // fio counts its own thread alone, and not the library's
    p50Us: latency.percentile["50.000000"] / 1000,
    p99Us: latency.percentile["99.000000"] / 1000,
  };
}

/**
 * Runs `use` with a cluster that has an image full of data.
 * @template T
 * @param {(conf: string) => Promise<T>} use
 */
export async function withImage(use) {
  const directory = mkdtempSync(join(tmpdir(), "asyncnbd-bench-ceph-"));
  const conf = join(directory, "ceph.conf");
  const rbd = (/** @type {string[]} */ ...words) =>
    execFileSync("rbd", words, { stdio: "ignore", env: { ...process.env, CEPH_CONF: conf } });
  try {
    execFileSync(script, ["up", directory, "memstore"], { stdio: "ignore" });
    appendFileSync(conf, "[client]\nrbd_cache = false\n");
    rbd("create", IMAGE, "--size", `${SIZE_MIB}M`);
    rbd("bench", "--io-type", "write", "--io-size", "4M", "--io-total", `${SIZE_MIB}M`, IMAGE);
    return await use(conf);
  } finally {
    execFileSync(script, ["down", directory], { stdio: "ignore" });
    rmSync(directory, { recursive: true, force: true });
  }
}

/** @param {Record<string, import("../remote.mjs").Group>} groups */
function judge(groups) {
  const of = (
    /** @type {string} */ load,
    /** @type {string} */ who,
    /** @type {"perSecond" | "serverUs" | "p50Us" | "p99Us"} */ key,
  ) => medianOf(groups[load], who, key);
  const rate = (/** @type {string} */ load, /** @type {string} */ who) =>
    of(load, OURS, "perSecond") / of(load, who, "perSecond");
  return [
    atLeast("4K read × 64 of librbd", rate("4K read × 64", LIBRARY), 0.85),
    atLeast("4K read × 64 of qemu-nbd", rate("4K read × 64", QEMU), 1.5),
    atLeast("4K write × 64 of librbd", rate("4K write × 64", LIBRARY), 0.95),
    atMost(
      "p99 of 4K reads × 64, of librbd's",
      of("4K read × 64", OURS, "p99Us") / of("4K read × 64", LIBRARY, "p99Us"),
      1.2,
    ),
    atMost(
      "p50 of 4K reads × 1, µs more than librbd's",
      of("4K read × 1", OURS, "p50Us") - of("4K read × 1", LIBRARY, "p50Us"),
      30,
    ),
    ...["128K read × 16", "128K write × 16"].map((load) =>
      atMost(
        `processor time of ${load}, of qemu-nbd's`,
        of(load, OURS, "serverUs") / of(load, QEMU, "serverUs"),
        1,
      ),
    ),
  ];
}

/**
 * All contestants in turn in each trial.
 * @param {import("../remote.mjs").Plan} plan
 * @returns {Promise<import("../remote.mjs").Part>}
 */
export async function measure({ trials, seconds }) {
  /** @type {Record<string, import("../remote.mjs").Group>} */
  const groups = {};
  const progress = new Progress("rbd", trials * Object.keys(LOADS).length * 3);
  await withImage(async (conf) => {
    const ours = Object.entries(servers(conf)).map(
      ([name, server]) =>
        /** @type {const} */ ([
          name,
          (/** @type {Load} */ load) =>
            measureServer(server, { ...load, warmUpSeconds: WARM_UP_SECONDS, seconds }),
        ]),
    );
    const contestants = {
      ...Object.fromEntries(ours),
      [LIBRARY]: (/** @type {Load} */ load) => withLibrary(conf, load, seconds),
    };
    for (const [name, load] of Object.entries(LOADS)) {
      const begin = (/** @type {string} */ step) => progress.step(`${name}, ${step}`);
      const runs = await inTurns(contestants, trials, begin, (run) => run(load));
      groups[name] = { load: `rbd, ${name}`, runs };
    }
  });
  progress.clear();
  return { groups: Object.values(groups), bars: judge(groups) };
}
