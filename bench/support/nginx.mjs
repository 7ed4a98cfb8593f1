// nginx with one worker on a port of this machine, as a web server and as a store, and its processor
// time.

import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

const TICKS_A_SECOND = 100;
const START_DEADLINE_MS = 10_000;
const LOOK_EVERY_MS = 5;

/** A port that was free a moment ago. @returns {Promise<number>} */
export const freePort = () =>
  new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
      server.close(() => resolve(port));
    });
  });

/** Until somebody listens there. @param {number} port @param {() => boolean} hasEnded */
export async function untilListening(port, hasEnded) {
  const deadline = performance.now() + START_DEADLINE_MS;
  for (;;) {
    const isThere = await new Promise((resolve) => {
      const probe = connect(port, "127.0.0.1");
      probe.on("connect", () => resolve(true)).on("error", () => resolve(false));
      probe.on("connect", () => probe.destroy());
    });
    if (isThere) return;
    if (hasEnded() || performance.now() > deadline) throw new Error(`nobody listens on ${port}`);
    await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
  }
}

/** Of a process, by the kernel's count. @param {number} pid */
export function processorSeconds(pid) {
  const [, fields = ""] = /\) (.*)/.exec(readFileSync(`/proc/${pid}/stat`, "utf8")) ?? [];
  const values = fields.split(" ").map(Number);
  return ((values[11] ?? 0) + (values[12] ?? 0)) / TICKS_A_SECOND;
}

/** The first one, which there will be. @param {number} parent */
async function childOf(parent) {
  for (;;) {
    const child = childOfNow(parent);
    if (child !== undefined) return child;
    await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
  }
}

/** @param {number} parent */
function childOfNow(parent) {
  for (const name of readdirSync("/proc").filter((entry) => /^\d+$/.test(entry)))
    try {
      const status = readFileSync(`/proc/${name}/status`, "utf8");
      if (new RegExp(`^PPid:\\t${parent}$`, "m").test(status)) return Number(name);
    } catch {} // it has ended meanwhile
  return undefined;
}

/**
 * As much of an S3 store as servers need that have keys, know of nothing, and write without conditions:
 * what is asked for and is not there has S3's name for it, and lists are empty.
 */
const BUCKET = `location = /bucket { default_type application/xml;
    return 200 "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"; }
  location /bucket/ { dav_methods PUT DELETE; create_full_put_path on; error_page 404 = @missing; }
  location @missing { default_type application/xml;
    return 404 "<Error><Code>NoSuchKey</Code></Error>"; }`;

/**
 * Runs `use` while nginx serves the file disk.img, and objects of a bucket.
 * @template T
 * @param {number} bytes of the file
 * @param {(site: { url: string, port: number, worker: number }) => Promise<T>} use
 */
export async function withNginx(bytes, use) {
  const directory = mkdtempSync(join(tmpdir(), "asyncnbd-bench-"));
  const port = await freePort();
  mkdirSync(join(directory, "www"));
  writeFileSync(join(directory, "www", "disk.img"), Buffer.alloc(bytes, 0x5a));
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
    .map((name) => `${name}_temp_path ${directory}/${name};`)
    .join(" ");
  const user = process.getuid?.() === 0 ? "user root;" : "";
  writeFileSync(
    join(directory, "nginx.conf"),
    `daemon off; ${user} worker_processes 1; pid ${directory}/pid; error_log stderr error;
     events { worker_connections 1024; }
     http { access_log off; keepalive_requests 100000000; sendfile on; ${temporary}
       client_max_body_size 0; client_body_buffer_size 128k; log_not_found off;
       server { listen 127.0.0.1:${port}; root ${directory}/www; ${BUCKET} } }`,
  );
  const options = ["-p", directory, "-e", "stderr", "-c", "nginx.conf"];
  const child = spawn("nginx", options, { stdio: ["ignore", "ignore", "inherit"] });
  const ended = new Promise((resolve) => child.once("close", resolve));
  try {
    await untilListening(port, () => child.exitCode !== null);
    const worker = await childOf(/** @type {number} */ (child.pid));
    return await use({ url: `http://127.0.0.1:${port}/disk.img`, port, worker });
  } finally {
    child.kill();
    await ended;
    rmSync(directory, { recursive: true, force: true });
  }
}
