// The servers that are compared: how each is started on a socket of its own, and ended.

import { execFileSync, spawn } from "node:child_process";
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { firstOption, NBD_OPT_ABORT } from "./nbd.mjs";

const main = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));
const START_DEADLINE_MS = 20_000;
const LOOK_EVERY_MS = 2;
const END_DEADLINE_MS = 20_000;

/**
 * @typedef {object} Place where a server is to listen, and what it may use
 * @property {string} directory of its own
 * @property {string} where the socket's path, or the port
 * @property {string} port that is free; with TCP the same as `where`
 * @property {"unix" | "tcp"} transport
 *
 * @typedef {object} Server
 * @property {(place: Place) => string[]} command
 * @property {string} [exportName]
 * @property {(place: Place) => string} [pidFile] of a server that goes to the background by itself
 *
 * @typedef {object} Running
 * @property {string} where
 * @property {number} pid
 * @property {boolean} hasProcesses one for each client, so that `pid` does not do the work
 * @property {string | undefined} exportName
 * @property {number} startMs from the start of the process to its first greeting
 */

/** @param {Place} place */
const listenLikeNbdkit = ({ transport, where }) =>
  transport === "tcp" ? ["-f", "-p", where, "-i", "127.0.0.1"] : ["-f", "-U", where];

/** @param {...string} args */
export const asyncnbd = (...args) => ({
  command: (/** @type {Place} */ place) => [
    process.execPath,
    main,
    ...args,
    ...listenLikeNbdkit(place),
  ],
});

/** @param {...string} args */
export const nbdkit = (...args) => ({
  command: (/** @type {Place} */ place) => ["nbdkit", ...args, ...listenLikeNbdkit(place)],
});

/** The file of one of nbdkit's filters. @param {string} name */
export function nbdkitFilter(name) {
  const config = execFileSync("nbdkit", ["--dump-config"], { encoding: "utf8" });
  return join(/^filterdir=(.*)$/m.exec(config)?.[1] ?? "", `nbdkit-${name}-filter.so`);
}

/** As many clients as the benchmarks have. @param {string} file @param {...string} args */
export const qemuNbd = (file, ...args) => ({
  command: (/** @type {Place} */ { where, transport }) => [
    ...["qemu-nbd", "--persistent", "--shared=4096", "--format=raw", ...args],
    ...(transport === "tcp" ? ["--bind=127.0.0.1", `--port=${where}`] : [`--socket=${where}`]),
    file,
  ],
});

/** @param {string} file */
export const nbdServer = (file) => ({
  exportName: "disk",
  pidFile: (/** @type {Place} */ { directory }) => join(directory, "pid"),
  command: (/** @type {Place} */ { directory, where, port, transport }) => {
    const config = join(directory, "config");
    const socket = transport === "unix" ? [`unixsock = ${where}`] : [];
    const generic = ["[generic]", ...socket, "listenaddr = 127.0.0.1", `port = ${port}`];
    const disk = ["[disk]", `exportname = ${file}`, "flush = true", "fua = true", "trim = true"];
    writeFileSync(config, [...generic, ...disk, ""].join("\n"));
    return ["nbd-server", "-C", config, "-p", join(directory, "pid")];
  },
});

/** Whether a program can be run here. @param {string} file @param {...string} args */
export function canRun(file, ...args) {
  try {
    execFileSync(file, args, { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

/** Whether it greets. @param {string} where a socket's path or a port of this machine */
const canConnect = (where) =>
  new Promise((resolve) => {
    const probe = /^\d+$/.test(where) ? connect(Number(where), "127.0.0.1") : connect(where);
    // The greeting has come: NBD_OPT_ABORT is how to leave without a complaint.
    probe.once("data", () => {
      probe.end(firstOption(NBD_OPT_ABORT));
      resolve(true);
    });
    probe.on("data", () => {});
    probe.on("error", () => resolve(false));
    probe.on("close", () => resolve(false));
    probe.setTimeout(START_DEADLINE_MS, () => probe.destroy());
  });

/** A port that was free a moment ago. */
const freePort = () =>
  new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
      server.close(() => resolve(String(port)));
    });
  });

/** Where nobody reaps the processes of others, one that has ended stays a zombie. @param {number} pid */
function isAlive(pid) {
  try {
    return !/^State:\tZ/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}

/** Of a process that is not our child. @param {number} pid */
export async function endStranger(pid) {
  process.kill(pid);
  const deadline = performance.now() + END_DEADLINE_MS;
  while (isAlive(pid)) {
    if (performance.now() > deadline) process.kill(pid, "SIGKILL");
    await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
  }
}

/** @param {import("node:child_process").ChildProcess} child */
function endChild(child) {
  child.kill();
  const late = setTimeout(() => child.kill("SIGKILL"), END_DEADLINE_MS);
  child.once("close", () => clearTimeout(late));
}

/**
 * Runs `measure` against a fresh server.
 * @template T
 * @param {Server} server
 * @param {(running: Running) => Promise<T>} measure
 * @param {"unix" | "tcp"} [transport]
 */
export async function withServer(server, measure, transport = "unix") {
  const directory = mkdtempSync(join(tmpdir(), "asyncnbd-bench-"));
  chmodSync(directory, 0o755); // nbd-server becomes somebody else
  const port = await freePort();
  const where = transport === "tcp" ? port : join(directory, "sock");
  const place = { directory, where, port, transport };
  const command = server.command(place);
  const [file, ...args] = /** @type {[string, ...string[]]} */ (command);
  const started = performance.now();
  const child = spawn(file, args, { stdio: ["ignore", "ignore", "inherit"] });
  const ended = new Promise((resolve) => child.once("close", resolve));
  let pid = /** @type {number} */ (child.pid);
  try {
    while (!(await canConnect(where))) {
      const hasFailed = child.exitCode !== null && (child.exitCode > 0 || !server.pidFile);
      if (performance.now() - started > START_DEADLINE_MS || hasFailed)
        throw new Error(`${command.join(" ")} does not listen`);
      await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
    }
    const startMs = performance.now() - started;
    if (server.pidFile) pid = Number(readFileSync(server.pidFile(place), "utf8"));
    const hasProcesses = server.pidFile !== undefined;
    return await measure({ where, pid, hasProcesses, exportName: server.exportName, startMs });
  } finally {
    if (pid === child.pid) endChild(child);
    else await endStranger(pid);
    await ended;
    rmSync(directory, { recursive: true, force: true });
  }
}
