// The system has no descriptor or thread left: clients are refused or wait, and afterwards all is
// as before.

import { execFileSync } from "node:child_process";
import { readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { run } from "../support/command.js";
import { type DiskKind, disks, readBlock } from "../support/disks.js";
import { ERRNO } from "../support/protocol.js";
import { RawClient } from "../support/raw-client.js";
import {
  type RunningServer,
  sanitizer,
  startServer,
  temporaryDirectory,
} from "../support/server.js";

const { ENOMEM } = ERRNO;
const CLIENTS = 8;

const KINDS: readonly DiskKind[] = [
  "memory",
  "async-file",
  "a plugin in TypeScript",
  "a plugin behind a filter",
];

/** The limit is on numbers: those below it that are free count too. */
function limitThatLeaves(server: RunningServer, count: number): number {
  const taken = new Set(readdirSync(`/proc/${server.pid}/fd`).map(Number));
  let limit = 0;
  for (let left = count; left > 0; limit++) if (!taken.has(limit)) left--;
  return limit;
}

async function limitDescriptors(server: RunningServer, limit: number): Promise<void> {
  const line = ["prlimit", "--pid", String(server.pid), `--nofile=${limit}:`];
  expect(await run(line)).toMatchObject({ status: 0 });
}

/** A new client is served, or refused by closing its connection; it does not wait for ever. */
async function comeAndGo(server: RunningServer): Promise<"served" | "refused"> {
  try {
    const client = await RawClient.open(server.where);
    await readBlock(client, 0, [0, ENOMEM]);
    return "served";
  } catch (error) {
    expect(String(error)).toMatch(/the server closed|was refused|EPIPE|ECONNRESET/);
    return "refused";
  }
}

/** While there is less than clients need, one that is there already goes on; then all do. */
async function survives(
  server: RunningServer,
  setShort: (isShort: boolean) => void | Promise<void>,
): Promise<void> {
  const established = await RawClient.open(server.where);
  await readBlock(established);
  await setShort(true);
  const coming = Array.from({ length: CLIENTS }, () => comeAndGo(server));
  // A filter in JavaScript needs a thread for each call of a C plugin.
  for (let i = 0; i < 20; i++) await readBlock(established, 0, [0, ENOMEM]);
  await setShort(false);
  await Promise.all(coming);
  await readBlock(established);
  expect(await comeAndGo(server)).toBe("served");
}

/** A library that, preloaded, keeps a program from starting threads while the file exists. */
function threadStopper(file: string): NodeJS.ProcessEnv {
  const library = join(temporaryDirectory(), "no-threads.so");
  const source = fileURLToPath(new URL("../support/no-threads.c", import.meta.url));
  execFileSync("cc", ["-shared", "-fPIC", "-o", library, source]);
  return { LD_PRELOAD: library, NO_THREADS: file };
}

describe.each(KINDS)("with %s", (kind) => {
  test.each([0, 1, 2, 3])("the server goes on with %i descriptors left", async (left) => {
    const server = await startServer(disks[kind](1));
    // Two for the client that is there.
    const limit = limitThatLeaves(server, 2 + left);
    await survives(server, (isShort) => limitDescriptors(server, isShort ? limit : 1024));
  });

  // The sanitizer is preloaded itself.
  test.skipIf(sanitizer !== undefined)("the server goes on with no threads left", async () => {
    const file = join(temporaryDirectory(), "no-threads");
    const server = await startServer(disks[kind](1), { env: threadStopper(file) });
    await survives(server, (isShort) => (isShort ? writeFileSync(file, "") : rmSync(file)));
  });
});
