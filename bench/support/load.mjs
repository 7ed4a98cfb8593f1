// Builds and runs load.c, the client of all benchmarks.

import { execFile, execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const source = fileURLToPath(new URL("../load.c", import.meta.url));
const folder = fileURLToPath(new URL("../../build-bench/", import.meta.url));
const program = `${folder}load`;

export function buildLoad() {
  mkdirSync(folder, { recursive: true });
  execFileSync("cc", ["-std=gnu11", "-O2", "-o", program, source], { stdio: "inherit" });
}

/** For `tls`; needs OpenSSL's headers. */
export function buildTlsLoad() {
  mkdirSync(folder, { recursive: true });
  const options = ["-std=gnu11", "-O2", "-DWITH_TLS", "-o", `${program}-tls`];
  execFileSync("cc", [...options, source, "-lssl", "-lcrypto"], { stdio: "inherit" });
}

/** Compiles one of the examples. Returns its path. @param {string} example */
export function buildPlugin(example) {
  const plugin = `${folder}${example}.so`;
  const include = fileURLToPath(new URL("../../native/include", import.meta.url));
  const file = fileURLToPath(new URL(`../../examples/${example}.c`, import.meta.url));
  mkdirSync(folder, { recursive: true });
  execFileSync("cc", ["-O2", "-fPIC", "-shared", `-I${include}`, file, "-o", plugin]);
  return plugin;
}

/**
 * @typedef {object} Load
 * @property {"read" | "write"} direction
 * @property {number} bytes of each request, at random offsets
 * @property {number} depth requests in flight on each connection
 * @property {number} [streams] connections
 * @property {number} [warmUpSeconds] before measuring
 * @property {number} seconds
 * @property {boolean} [tls]
 *
 * @typedef {object} Measured
 * @property {number} requests
 * @property {number} seconds
 * @property {number} p50Us
 * @property {number} p99Us
 * @property {number} p999Us
 */

/**
 * @param {string} socket
 * @param {Load} load
 * @returns {Promise<Measured>}
 */
export async function apply(
  socket,
  { direction, bytes, depth, streams = 1, warmUpSeconds = 0, seconds, tls = false },
) {
  const args = [socket, direction, bytes, depth, streams, warmUpSeconds, seconds].map(String);
  const { stdout } = tls
    ? await promisify(execFile)(`${program}-tls`, [...args, "tls"])
    : await promisify(execFile)(program, args);
  return JSON.parse(stdout);
}
