// Starts a server on a unix socket for one trial, and ends it.

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const main = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));

export const commands = {
  asyncnbd: [process.execPath, main],
  nbdkit: ["nbdkit"],
};

const START_DEADLINE_MS = 10_000;

/** @param {string} where a socket's path or a port of this machine */
const canConnect = (where) =>
  new Promise((resolve) => {
    const probe = /^\d+$/.test(where) ? connect(Number(where), "127.0.0.1") : connect(where);
    // The greeting has come: leaving earlier would make nbdkit complain.
    probe.once("data", () => {
      probe.destroy();
      resolve(true);
    });
    probe.once("error", () => resolve(false));
  });

/** A port that was free a moment ago. */
const freePort = () =>
  new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
      server.close(() => resolve(String(port)));
    });
  });

/**
 * Runs `measure` against a fresh server.
 * @template T
 * @param {readonly string[]} command with all options but where to listen
 * @param {(where: string, pid: number) => Promise<T>} measure with the socket's path, or the port
 * @param {"unix" | "tcp"} [transport]
 */
export async function withServer(command, measure, transport = "unix") {
  const directory = mkdtempSync(join(tmpdir(), "asyncnbd-bench-"));
  const where = transport === "tcp" ? await freePort() : join(directory, "sock");
  const listen = transport === "tcp" ? ["-p", where, "-i", "127.0.0.1"] : ["-U", where];
  const [file, ...args] = /** @type {[string, ...string[]]} */ (command);
  const child = spawn(file, [...args, "-f", ...listen], { stdio: "inherit" });
  try {
    const deadline = Date.now() + START_DEADLINE_MS;
    while (!(await canConnect(where))) {
      if (Date.now() > deadline) throw new Error(`${command.join(" ")} does not listen`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    return await measure(where, /** @type {number} */ (child.pid));
  } finally {
    child.kill();
    await new Promise((resolve) => child.once("close", resolve));
    rmSync(directory, { recursive: true, force: true });
  }
}
