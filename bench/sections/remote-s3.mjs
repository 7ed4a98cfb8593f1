// An object of S3 beside nbdkit's curl plugin, and volumes beside nbdkit's S3 plugin, which needs boto3.
// The store is nginx, which asks for no signature and takes less time than any store, so that the rates
// are the servers'; and for one volume Ceph's radosgw, whose rates on few cores are its own.

import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { atLeast, atMost } from "../support/bars.mjs";
import { addLimit, withDelay } from "../support/link.mjs";
import { withNginx } from "../support/nginx.mjs";
import { compare, measure as measureServer, medianOf } from "../support/remote-store.mjs";
import { asyncnbd, canRun, nbdkit } from "../support/servers.mjs";

const DISK_BYTES = 256 << 20;
const ONE_WAY_MS = 10;
const cephScript = fileURLToPath(new URL("../../scripts/ceph", import.meta.url));

// Of scripts/ceph; nginx does not look at them.
process.env.AWS_ACCESS_KEY_ID = "test";
process.env.AWS_SECRET_ACCESS_KEY = "secret12345";
process.env.AWS_DEFAULT_REGION = "us-east-1";
// Otherwise boto3 wraps bodies in a form of their own, which nginx would store.
process.env.AWS_REQUEST_CHECKSUM_CALCULATION = "when_required";

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
    const far = await withDelay(port, ONE_WAY_MS, async (proxied) => {
      const distant = { "asyncnbd s3": ours(proxied) };
      const what = "s3 object, 20 ms away: 4 KiB × 64 reads";
      const group = await compare(what, distant, worker, load, plan);
      await addLimit(group, proxied, "/disk.img", load, DISK_BYTES, plan);
      return group;
    });
    return [near, far];
  });

const VOLUME_BYTES = 64 << 20;
const OBJECT_BYTES = 65_536;
const FILL = {
  ...{ bytes: OBJECT_BYTES, depth: 16, readPercent: 0, sequential: true },
  count: VOLUME_BYTES / OBJECT_BYTES,
};

/** @param {string[]} words @param {string} key */
function volumes(words, key) {
  const place = [...words, `size=${VOLUME_BYTES}`, `object-size=${OBJECT_BYTES}`];
  return {
    "asyncnbd s3": asyncnbd("s3", ...place, `key=${key}-a`, "single-writer=true"),
    ...(canRun("nbdkit", "--dump-plugin", "S3") && {
      "nbdkit S3": nbdkit("S3", ...place, `key=${key}-b`),
    }),
  };
}

const VOLUME_LOADS = [
  { name: "64 KiB × 16 writes", bytes: 65_536, depth: 16, readPercent: 0 },
  { name: "64 KiB × 16 reads", bytes: 65_536, depth: 16, readPercent: 100 },
  { name: "4 KiB × 16 writes", bytes: 4096, depth: 16, readPercent: 0 },
  { name: "4 KiB × 16 reads", bytes: 4096, depth: 16, readPercent: 100 },
];

/**
 * Of volumes that are full.
 * @param {string} where
 * @param {Record<string, import("../support/servers.mjs").Server>} servers
 * @param {number} store the process whose time is the store's
 * @param {import("../remote.mjs").Plan} plan
 * @returns {Promise<import("../remote.mjs").Group[]>}
 */
async function compareVolumes(where, servers, store, plan) {
  for (const server of Object.values(servers)) await measureServer(server, FILL, store);
  /** @type {import("../remote.mjs").Group[]} */
  const groups = [];
  for (const { name, ...load } of VOLUME_LOADS)
    groups.push(await compare(`s3 volume, ${where}: ${name}`, servers, store, load, plan));
  return groups;
}

/** @param {import("../remote.mjs").Plan} plan @returns {Promise<import("../remote.mjs").Group[]>} */
const measureVolume = (plan) =>
  withNginx(4096, ({ port, worker }) => {
    const words = [`endpoint-url=http://127.0.0.1:${port}`, "bucket=bucket"];
    return compareVolumes("nginx", volumes(words, "disk"), worker, plan);
  });

/** @param {import("../remote.mjs").Plan} plan */
async function measureVolumeOfCeph(plan) {
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
    execFileSync("curl", ["-sfX", "PUT", ...signed, ...header, `${endpoint}/bucket`]);
    const words = [`endpoint-url=${endpoint}`, "bucket=bucket"];
    return await compareVolumes("radosgw", volumes(words, "disk"), store, plan);
  } finally {
    ceph("down", directory);
    rmSync(directory, { recursive: true, force: true });
  }
}

/**
 * @param {import("../remote.mjs").Group} group
 * @param {"perSecond" | "serverUs"} key
 */
const ratio = (group, key) =>
  medianOf(group, "asyncnbd s3", key) / medianOf(group, "nbdkit S3", key);

/** @param {import("../remote.mjs").Group} group */
const timesNbdkit = (group) =>
  atLeast(`${group.load}: requests a second, nbdkit S3 = 1`, ratio(group, "perSecond"), 3);

/** @param {import("../remote.mjs").Group} group */
const partOfNbdkit = (group) =>
  atMost(`${group.load}: processor time, nbdkit S3 = 1`, ratio(group, "serverUs"), 1 / 3);

/** @param {import("../remote.mjs").Plan} plan @returns {Promise<import("../remote.mjs").Part>} */
export async function measure(plan) {
  const [near, far] = await measureObject(plan);
  const volume = await measureVolume(plan);
  const ofCeph = await measureVolumeOfCeph(plan);
  const hasRival = volume.every(({ runs }) => "nbdkit S3" in runs);
  const time =
    medianOf(near, "asyncnbd s3", "serverUs") / medianOf(near, "nbdkit curl", "serverUs");
  const rate = medianOf(far, "asyncnbd s3", "perSecond");
  const objects = [near, far].filter((group) => group !== undefined);
  return {
    groups: [...objects, ...volume, ...ofCeph],
    bars: [
      atMost("s3 object on loopback: processor time of 4 KiB × 64, nbdkit curl = 1", time, 2),
      atLeast("s3 object 20 ms away: requests a second at 4 KiB × 64, of 3,200", rate, 2800),
      ...(hasRival ? [...volume.map(timesNbdkit), ...ofCeph.map(partOfNbdkit)] : []),
    ],
  };
}
