// Other servers of NBD than ours, each with a disk of its own in a file.

import { execFileSync, spawn } from "node:child_process";
import { chmodSync, existsSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { onFreePort } from "./free-port.js";
import { eventually, nbdkit, startServer, temporaryDirectory } from "./server.js";

export const DISK_BYTES = 8 * 2 ** 20;

export interface Peer {
  readonly uri: string;
}

function makeDisk(directory: string): string {
  chmodSync(directory, 0o755); // nbd-server becomes somebody else
  const disk = join(directory, "disk.img");
  writeFileSync(disk, "");
  chmodSync(disk, 0o666);
  truncateSync(disk, DISK_BYTES);
  return disk;
}

/** Until somebody listens there. */
const listens = (where: string | number): Promise<true> =>
  eventually(
    `a server on ${where}`,
    () =>
      new Promise<true | undefined>((resolve) => {
        const probe = typeof where === "number" ? connect(where, "127.0.0.1") : connect(where);
        probe.once("data", () => {
          probe.destroy();
          resolve(true);
        });
        probe.once("error", () => resolve(undefined));
        probe.setTimeout(1000, () => {
          probe.destroy();
          resolve(undefined);
        });
      }),
  );

function start(argv: readonly string[]): void {
  const child = spawn(argv[0] as string, argv.slice(1), { stdio: "ignore" });
  onTestFinished(() => {
    child.kill("SIGKILL");
  });
}

export async function startQemuNbd(...options: readonly string[]): Promise<Peer> {
  const directory = temporaryDirectory();
  const socket = join(directory, "sock");
  const disk = makeDisk(directory);
  start(
    ["qemu-nbd", "--persistent", "--shared=8", "--format=raw", `--socket=${socket}`]
      .concat(options)
      .concat(disk),
  );
  await listens(socket);
  return { uri: `nbd+unix:///?socket=${socket}` };
}

export async function startNbdServer(): Promise<Peer> {
  const directory = temporaryDirectory();
  const disk = makeDisk(directory);
  const config = join(directory, "config");
  const pidFile = join(directory, "pid");
  const port = await onFreePort((port) => {
    writeFileSync(
      config,
      `[generic]\nlistenaddr = 127.0.0.1\nport = ${port}\nallowlist = true\n` +
        `[disk]\nexportname = ${disk}\nflush = true\nfua = true\ntrim = true\n`,
    );
    execFileSync("nbd-server", ["-C", config, "-p", pidFile], { stdio: "ignore" }); // it goes on alone
    return port;
  });
  onTestFinished(() => {
    const pid = Number(readFileSync(pidFile, "utf8"));
    if (existsSync(`/proc/${pid}`)) process.kill(pid, "SIGKILL");
  });
  await listens(port);
  return { uri: `nbd://127.0.0.1:${port}/disk` };
}

export async function startNbdkit(...more: readonly string[]): Promise<Peer> {
  const disk = makeDisk(temporaryDirectory());
  const server = await startServer(["file", disk, ...more], { command: nbdkit });
  return { uri: server.uri };
}

export async function startAsyncnbd(
  transport: "unix" | "tcp" = "unix",
  ...options: readonly string[]
): Promise<Peer> {
  const disk = makeDisk(temporaryDirectory());
  const server = await startServer(["file", disk], { transport, options });
  return { uri: server.uri };
}
