// Who takes part: our servers and their peers, each with a disk of 256 MiB that is full of data.

import { execFileSync } from "node:child_process";
import { randomFillSync } from "node:crypto";
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { apply } from "./load.mjs";
import { asyncnbd, canRun, nbdkit, nbdServer, qemuNbd } from "./servers.mjs";

export const SIZE_BYTES = 256 << 20;
const SIZE = "256M";
const BLOCK_BYTES = 1 << 20;

/** @param {string} relative */
const path = (relative) => fileURLToPath(new URL(relative, import.meta.url));

/** nbdkit's own plugin, for what loads it besides. @param {string} name */
export function pluginOfNbdkit(name) {
  const config = execFileSync("nbdkit", ["--dump-config"], { encoding: "utf8" });
  return `${/^plugindir=(.*)$/m.exec(config)?.[1]}/nbdkit-${name}-plugin.so`;
}

/** @param {string} path */
function makeDisk(path) {
  const block = Buffer.alloc(BLOCK_BYTES);
  const fd = openSync(path, "wx");
  for (let written = 0; written < SIZE_BYTES; written += BLOCK_BYTES)
    writeSync(fd, randomFillSync(block));
  closeSync(fd);
}

/**
 * A disk as a file in memory (tmpfs), and one on this machine's disk, for as long as `use` takes.
 * @template T
 * @param {(files: { memory: string, disk: string }) => Promise<T>} use
 */
export async function withDisks(use) {
  const folders = ["/dev/shm", "/var/tmp"].map((parent) =>
    mkdtempSync(join(parent, "asyncnbd-bench-")),
  );
  try {
    const [memory, disk] = /** @type {[string, string]} */ (
      folders.map((folder) => join(folder, "disk"))
    );
    makeDisk(memory);
    makeDisk(disk);
    return await use({ memory, disk });
  } finally {
    for (const folder of folders) rmSync(folder, { recursive: true });
  }
}

/**
 * @typedef {import("./servers.mjs").Server & { isEmpty?: boolean }} Participant
 *   `isEmpty`: to be filled before anything is read
 */

/**
 * All that this machine can run, by their names in the report.
 * @param {{ memory: string, disk: string }} files
 * @returns {Record<string, Participant>}
 */
export function lineup({ memory, disk }) {
  const hasPython = canRun("nbdkit", "--dump-plugin", "python");
  const hasServer = canRun("nbd-server", "-V");
  return {
    "asyncnbd memory": { ...asyncnbd("memory", SIZE), isEmpty: true },
    "asyncnbd, nbdkit's memory .so": {
      ...asyncnbd(pluginOfNbdkit("memory"), SIZE),
      isEmpty: true,
    },
    "asyncnbd ram.ts": {
      ...asyncnbd(path("../../examples/ram.ts"), `size=${SIZE}`),
      isEmpty: true,
    },
    "asyncnbd file": asyncnbd("file", memory),
    "asyncnbd async-file": asyncnbd("async-file", memory),
    "asyncnbd file (disk)": asyncnbd("file", disk),
    "nbdkit memory": { ...nbdkit("memory", SIZE), isEmpty: true },
    "nbdkit null": nbdkit("null", SIZE),
    ...(hasPython && {
      "nbdkit python": { ...nbdkit("python", path("../ram.py"), `size=${SIZE}`), isEmpty: true },
    }),
    "nbdkit file": nbdkit("file", memory),
    "nbdkit file (disk)": nbdkit("file", disk),
    "qemu-nbd": qemuNbd(memory),
    "qemu-nbd (disk)": qemuNbd(disk),
    ...(hasServer && { "nbd-server": nbdServer(memory) }),
  };
}

/**
 * Writes to all of a disk that is empty: nothing is as quick to read as what was never written.
 * @param {Participant} participant
 * @param {import("./servers.mjs").Running} running
 * @param {{ tls?: boolean }} [how]
 */
export async function fill({ isEmpty = false }, { where, exportName }, how = {}) {
  const count = SIZE_BYTES / BLOCK_BYTES;
  const load = { bytes: BLOCK_BYTES, depth: 4, sequential: true, readPercent: 0, count, ...how };
  if (isEmpty) await apply(where, { ...load, ...(exportName !== undefined && { exportName }) });
}

/**
 * Those of these names that take part, in the order of the names.
 * @param {Record<string, Participant>} participants
 * @param {readonly string[]} names
 * @returns {Record<string, Participant>}
 */
export const these = (participants, names) =>
  Object.fromEntries(
    names.flatMap((name) => {
      const participant = participants[name];
      return participant === undefined ? [] : [[name, participant]];
    }),
  );
