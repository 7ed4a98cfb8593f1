// An object of S3 (of nginx, which asks for no signature and is faster than any store) beside nbdkit's
// curl plugin, and a volume of Ceph's radosgw beside nbdkit's S3 plugin: NBDKIT_S3_PLUGIN names its
// S3.py, of nbdkit's repository, if it is to take part; it needs boto3.

import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { atLeast, atMost } from "../support/bars.mjs";
import { withDelay } from "../support/delay-proxy.mjs";
import { withNginx } from "../support/nginx.mjs";
import { compare, medianOf } from "../support/remote-store.mjs";
import { asyncnbd, canRun, nbdkit } from "../support/servers.mjs";

const DISK_BYTES = 256 << 20;
const ONE_WAY_MS = 10;
const cephScript = fileURLToPath(new URL("../../scripts/ceph", import.meta.url));

// Of scripts/ceph; nginx does not look at them.
process.env.AWS_ACCESS_KEY_ID = "test";
process.env.AWS_SECRET_ACCESS_KEY = "secret12345";

/** @param {import("../remote.mjs").Plan} plan */
const measureObject = (plan) =>
  withNginx(DISK_BYTES, async ({ url, port, worker }) => {
    const load = { bytes: 4096, depth: 64, readPercent: 100 };
    // The folder itself is the bucket.
    const ours = (/** @type {number} */ at) =>
      asyncnbd("s3", `endpoint-url=http://127.0.0.1:${at}`, "bucket=.", "key=disk.img");
    const servers = {
      "asyncnbd s3": ours(port),
      ...(canRun("nbdkit", "--dump-plugin", "curl") && { "nbdkit curl": nbdkit("curl", url) }),
    };
    const near = await compare(
      "s3 object, loopback: 4 KiB × 64 reads",
      servers,
      worker,
      load,
      plan,
    );
    const far = await withDelay(port, ONE_WAY_MS, (proxied) => {
      const distant = { "asyncnbd s3": ours(proxied) };
      return compare("s3 object, 20 ms away: 4 KiB × 64 reads", distant, worker, load, plan);
    });
    return [near, far];
  });

/** @param {import("../remote.mjs").Plan} plan */
async function measureVolume(plan) {
  const directory = mkdtempSync(join(tmpdir(), "asyncnbd-bench-"));
  const ceph = (/** @type {string[]} */ ...words) =>
    execFileSync(cephScript, words, { stdio: ["ignore", "ignore", "inherit"] });
  try {
    ceph("up", directory, "memstore");
    ceph("s3", directory);
    const port = readFileSync(join(directory, "s3-port"), "utf8").trim();
    const store = Number(readFileSync(join(directory, "run", "client.s3.pid"), "utf8"));
    const endpoint = `http://127.0.0.1:${port}`;
    const signed = ["--aws-sigv4", "aws:amz:us-east-1:s3", "--user", "test:secret12345"];
    const header = ["-H", "x-amz-content-sha256: UNSIGNED-PAYLOAD"];
    execFileSync("curl", ["-sfX", "PUT", ...signed, ...header, `${endpoint}/bench`]);
    const words = [`endpoint-url=${endpoint}`, "bucket=bench", "size=64M", "object-size=64K"];
    const theirs = process.env.NBDKIT_S3_PLUGIN;
    const servers = {
      "asyncnbd s3": asyncnbd("s3", ...words, "key=ours"),
      ...(theirs !== undefined && {
        "nbdkit S3": nbdkit("python", theirs, ...words, "key=theirs"),
      }),
    };
    const load = { bytes: 65536, depth: 16 };
    const writes = { ...load, readPercent: 0 };
    const reads = { ...load, readPercent: 100 };
    return [
      await compare("s3 volume, 64 KiB objects: 64 KiB × 16 writes", servers, store, writes, plan),
      await compare("s3 volume, 64 KiB objects: 64 KiB × 16 reads", servers, store, reads, plan),
    ];
  } finally {
    ceph("down", directory);
    rmSync(directory, { recursive: true, force: true });
  }
}

/** @param {import("../remote.mjs").Group | undefined} group @param {string} what */
function timesNbdkit(group, what) {
  // On two cores all of them wait for the store, which is the dearer part by far; on more, the bar is
  // one of what the servers make of it.
  const value =
    medianOf(group, "asyncnbd s3", "perSecond") / medianOf(group, "nbdkit S3", "perSecond");
  return atLeast(`${what}: requests a second, nbdkit S3 = 1`, value, 3);
}

/** @param {import("../remote.mjs").Group | undefined} group @param {string} what */
function partOfNbdkit(group, what) {
  const value =
    medianOf(group, "asyncnbd s3", "serverUs") / medianOf(group, "nbdkit S3", "serverUs");
  return atMost(`${what}: processor time, nbdkit S3 = 1`, value, 1 / 3);
}

/** @param {import("../remote.mjs").Plan} plan @returns {Promise<import("../remote.mjs").Part>} */
export async function measure(plan) {
  const [near, far] = await measureObject(plan);
  const volume = await measureVolume(plan);
  const time =
    medianOf(near, "asyncnbd s3", "serverUs") / medianOf(near, "nbdkit curl", "serverUs");
  const rate = medianOf(far, "asyncnbd s3", "perSecond");
  const groups = [near, far, ...volume].filter((group) => group !== undefined);
  return {
    groups,
    bars: [
      atMost("s3 object on loopback: processor time of 4 KiB × 64, nbdkit curl = 1", time, 2),
      atLeast("s3 object 20 ms away: requests a second at 4 KiB × 64, of 3,200", rate, 2800),
      ...(process.env.NBDKIT_S3_PLUGIN === undefined
        ? []
        : [
            timesNbdkit(volume[0], "s3 volume, writes"),
            partOfNbdkit(volume[0], "s3 volume, writes"),
            timesNbdkit(volume[1], "s3 volume, reads"),
            partOfNbdkit(volume[1], "s3 volume, reads"),
          ]),
    ],
  };
}
