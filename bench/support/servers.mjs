// Starts a server on a unix socket for one trial, and ends it.

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const main = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));

export const commands = {
  asyncnbd: [process.execPath, main],
  nbdkit: ["nbdkit"],
};

const START_DEADLINE_MS = 10_000;

/** @param {string} socket */
const canConnect = (socket) =>
  new Promise((resolve) => {
    const probe = connect(socket);
    // The greeting has come: leaving earlier would make nbdkit complain.
    probe.once("data", () => {
      probe.destroy();
      resolve(true);
    });
    probe.once("error", () => resolve(false));
  });

/**
 * Runs `measure` against a fresh server.
 * @template T
 * @param {readonly string[]} command with all options but where to listen
 * @param {(socket: string, pid: number) => Promise<T>} measure
 */
export async function withServer(command, measure) {
  const directory = mkdtempSync(join(tmpdir(), "asyncnbd-bench-"));
  const socket = join(directory, "sock");
  const [file, ...args] = /** @type {[string, ...string[]]} */ (command);
  const child = spawn(file, [...args, "-f", "-U", socket], { stdio: "inherit" });
  try {
    const deadline = Date.now() + START_DEADLINE_MS;
    while (!(await canConnect(socket))) {
      if (Date.now() > deadline) throw new Error(`${command.join(" ")} does not listen`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    return await measure(socket, /** @type {number} */ (child.pid));
  } finally {
    child.kill();
    await new Promise((resolve) => child.once("close", resolve));
    rmSync(directory, { recursive: true, force: true });
  }
}
