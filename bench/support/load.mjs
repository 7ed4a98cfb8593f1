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

/**
 * @typedef {object} Measured
 * @property {number} requests
 * @property {number} seconds
 * @property {number} p50Us
 * @property {number} p99Us
 */

/**
 * Random reads of `bytes` each, `depth` of them in flight.
 * @param {string} socket
 * @param {{ bytes: number, depth: number, seconds: number }} load
 * @returns {Promise<Measured>}
 */
export async function randomReads(socket, { bytes, depth, seconds }) {
  const args = [socket, bytes, depth, seconds].map(String);
  const { stdout } = await promisify(execFile)(program, args);
  return JSON.parse(stdout);
}
