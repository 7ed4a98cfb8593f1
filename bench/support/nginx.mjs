// nginx with one worker on a port of this machine, and its processor time.

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
 * Runs `use` while nginx serves a file of random bytes.
 * @template T
 * @param {number} bytes
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
       server { listen 127.0.0.1:${port}; root ${directory}/www; } }`,
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
