// A way to a web server that takes time, and what a client that does nothing else gets through it.

import { execFile, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { compileProgram } from "./load.mjs";
import { freePort, untilListening } from "./nginx.mjs";

const sources = fileURLToPath(new URL("../link/", import.meta.url));

/**
 * Runs `use` with a port from which the target's is that far away.
 * @template T
 * @param {number} target
 * @param {number} oneWayMs
 * @param {(port: number) => Promise<T>} use
 */
export async function withDelay(target, oneWayMs, use) {
  const program = compileProgram([`${sources}delay.c`], "delay");
  const port = await freePort();
  const words = [port, target, oneWayMs * 1000].map(String);
  const child = spawn(program, words, { stdio: ["ignore", "ignore", "inherit"] });
  const ended = new Promise((resolve) => child.once("close", resolve));
  try {
    await untilListening(port, () => child.exitCode !== null);
    return await use(port);
  } finally {
    child.kill();
    await ended;
  }
}

/** @typedef {{ bytes: number, depth: number }} Load */

/**
 * Answers in a second to a bare client.
 * @param {number} port
 * @param {string} path
 * @param {Load} load
 * @param {number} fileBytes
 * @param {number} seconds
 */
async function ask(port, path, { bytes, depth }, fileBytes, seconds) {
  const program = compileProgram([`${sources}ask.c`], "ask");
  const words = [port, path, fileBytes, bytes, depth, seconds].map(String);
  return Number((await promisify(execFile)(program, words)).stdout);
}

/**
 * Adds what any client can reach at most, as one more contestant.
 * @param {import("../remote.mjs").Group | undefined} group
 * @param {number} port
 * @param {string} path
 * @param {Load} load
 * @param {number} fileBytes
 * @param {import("../remote.mjs").Plan} plan
 */
export async function addLimit(group, port, path, load, fileBytes, { trials, seconds }) {
  const runs = [];
  for (let i = 0; i < trials; i++) {
    const perSecond = await ask(port, path, load, fileBytes, seconds);
    runs.push({ perSecond, serverUs: Number.NaN });
  }
  if (group !== undefined) group.runs["limit: a bare client"] = runs;
}
