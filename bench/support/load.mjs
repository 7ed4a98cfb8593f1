// Builds and runs load/, the client of all benchmarks.

import { execFile, execFileSync, spawn } from "node:child_process";
import { mkdirSync, readdirSync, renameSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const sources = fileURLToPath(new URL("../load/", import.meta.url));
const folder = fileURLToPath(new URL("../../build-bench/", import.meta.url));
const program = `${folder}load`;
const MAX_OUTPUT_BYTES = 16 << 20;
// Longer than it was to run: a server may leave requests unanswered for ever.
const GRACE_MS = 60_000;

/**
 * Runs the compiler. The result gets its name when it is whole, for there may be others who build
 * or run it at the same time.
 * @param {string[]} args
 * @param {string} result
 */
function compile(args, result) {
  mkdirSync(folder, { recursive: true });
  const unfinished = `${result}.${process.pid}`;
  execFileSync("cc", [...args, "-o", unfinished], { stdio: "inherit" });
  renameSync(unfinished, result);
}

/**
 * Compiles a program of C. Returns its path.
 * @param {string[]} files
 * @param {string} name
 * @param {string[]} [libraries]
 */
export function compileProgram(files, name, libraries = []) {
  const options = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-D_GNU_SOURCE"];
  compile([...options, ...files, ...libraries], folder + name);
  return folder + name;
}

export function buildLoad() {
  const files = readdirSync(sources).filter((name) => name.endsWith(".c"));
  compileProgram(
    files.map((name) => sources + name),
    "load",
    ["-lssl", "-lcrypto"],
  );
}

/** Compiles one of the examples. Returns its path. @param {string} example */
export function buildPlugin(example) {
  const plugin = `${folder}${example}.so`;
  const include = fileURLToPath(new URL("../../native/include", import.meta.url));
  const file = fileURLToPath(new URL(`../../examples/${example}.c`, import.meta.url));
  compile(["-O2", "-fPIC", "-shared", `-I${include}`, file], plugin);
  return plugin;
}

/** What the load generator's end means if the server does not offer what was to be asked. */
export const EXIT_NOT_OFFERED = 77;

/**
 * @typedef {object} Load
 * @property {number} [bytes] of each request
 * @property {number} [depth] requests in flight on each connection
 * @property {number} [connections]
 * @property {number} [readPercent]
 * @property {"write" | "fua" | "trim" | "zero"} [others] than reads; writes by default
 * @property {boolean} [sequential] instead of at random offsets
 * @property {boolean} [verify]
 * @property {boolean} [structured]
 * @property {boolean} [tls]
 * @property {string} [exportName]
 * @property {number} [warmUpSeconds] before measuring
 * @property {number} [seconds]
 * @property {number} [count] of requests, then it is over
 * @property {"churn" | "raw"} [mode]
 * @property {"unix" | "tcp"} [bare] no server, but two ends that know what comes next
 * @property {string} [file] whose pages they read and write, instead of memory
 * @property {number} [pid] of the server, for its processor time
 *
 * @typedef {object} Measured
 * @property {number} requests
 * @property {number} seconds
 * @property {number} verified
 * @property {number} serverSeconds of processor time
 * @property {number} clientSeconds
 * @property {number} meanUs
 * @property {number} p50Us
 * @property {number} p90Us
 * @property {number} p99Us
 * @property {number} p999Us
 * @property {number} maxUs
 * @property {[us: number, count: number][]} histogram of latencies
 * @property {number[]} answered requests of each connection
 */

/** @param {Load} load */
function argumentsOf(load) {
  /** @type {[string, string | number | undefined][]} */
  const valued = [
    ["block-size", load.bytes],
    ["depth", load.depth],
    ["connections", load.connections],
    ["reads", load.readPercent],
    ["others", load.others],
    ["bare", load.bare],
    ["file", load.file],
    ["export", load.exportName],
    ["warm-up", load.warmUpSeconds],
    ["seconds", load.seconds],
    ["count", load.count],
    ["pid", load.pid],
  ];
  /** @type {[string, boolean | undefined][]} */
  const switches = [
    ["sequential", load.sequential],
    ["verify", load.verify],
    ["structured", load.structured],
    ["tls", load.tls],
    ["churn", load.mode === "churn"],
    ["raw", load.mode === "raw"],
  ];
  return [
    ...valued.flatMap(([name, value]) => (value === undefined ? [] : [`--${name}=${value}`])),
    ...switches.flatMap(([name, isOn]) => (isOn === true ? [`--${name}`] : [])),
  ];
}

/**
 * @param {string | undefined} where a socket's path or a port of this machine
 * @param {Load} load
 * @returns {Promise<Measured>}
 */
export async function apply(where, load) {
  const wantedMs = ((load.warmUpSeconds ?? 0) + (load.seconds ?? 0)) * 1000;
  const { stdout } = await promisify(execFile)(
    program,
    [...argumentsOf(load), ...(where === undefined ? [] : [where])],
    {
      maxBuffer: MAX_OUTPUT_BYTES,
      ...(load.count === undefined && { timeout: wantedMs + GRACE_MS, killSignal: "SIGKILL" }),
    },
  );
  return JSON.parse(stdout);
}

/**
 * Runs `measure` while that many connections are open and idle.
 * @template T
 * @param {string} where
 * @param {number} connections
 * @param {() => Promise<T>} measure
 */
export async function whileIdle(where, connections, measure) {
  const options = ["--idle", "--seconds=600", `--connections=${connections}`, where];
  const child = spawn(program, options, { stdio: ["ignore", "pipe", "inherit"] });
  const ended = new Promise((resolve) => child.once("close", resolve));
  try {
    const isOpen = await Promise.race([
      new Promise((resolve) => child.stdout.once("data", () => resolve(true))),
      ended,
    ]);
    if (isOpen !== true) throw new Error(`${connections} connections could not be opened`);
    return await measure();
  } finally {
    child.kill();
    await ended;
  }
}
