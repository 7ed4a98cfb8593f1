// The same servers under clients that are not ours: fio's nbd engine, and nbdcopy.

import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { fill, SIZE_BYTES, these } from "../support/lineup.mjs";
import { inTurns, Progress } from "../support/progress.mjs";
import { canRun, withServer } from "../support/servers.mjs";

const NAMES = [
  "asyncnbd memory",
  "asyncnbd file",
  "asyncnbd async-file",
  "asyncnbd ram.ts",
  "nbdkit memory",
  "nbdkit file",
  "qemu-nbd",
  "nbd-server",
];
const COPY_ROUNDS = 4; // a disk of this size is copied in a moment
const run = promisify(execFile);

/**
 * @typedef {object} Witness
 * @property {string} client
 * @property {string} server
 * @property {number} value
 * @property {string} unit
 */

/** @param {string} uri @param {number} depth @param {number} seconds */
async function readsByFio(uri, depth, seconds) {
  const { stdout } = await run("fio", [
    ...["--name=read", "--ioengine=nbd", `--uri=${uri}`, "--rw=randread", "--bs=4k"],
    ...[`--iodepth=${depth}`, "--time_based", `--runtime=${seconds}`, "--ramp_time=200ms"],
    ...["--output-format=json", `--size=${SIZE_BYTES}`],
  ]);
  return /** @type {number} */ (JSON.parse(stdout.slice(stdout.indexOf("{"))).jobs[0].read.iops);
}

/** @param {string} uri */
async function copyMibPerSecond(uri) {
  const begin = performance.now();
  for (let i = 0; i < COPY_ROUNDS; i++) await run("nbdcopy", [uri, "null:"]);
  return (COPY_ROUNDS * SIZE_BYTES) / 2 ** 20 / ((performance.now() - begin) / 1000);
}

/**
 * @param {Record<string, import("../support/lineup.mjs").Participant>} participants
 * @param {import("./throughput.mjs").Plan} plan
 */
export async function measureWitnesses(participants, plan) {
  const hasFio = canRun("fio", "--enghelp=nbd");
  const hasCopy = canRun("nbdcopy", "--version");
  /** @type {Witness[]} */
  const trials = [];
  const servers = these(participants, NAMES);
  const progress = new Progress("witnesses", plan.trials * Object.keys(servers).length);
  const begin = (/** @type {string} */ step) => progress.step(step);
  await inTurns(servers, plan.trials, begin, (participant, server) =>
    withServer(participant, async (running) => {
      await fill(participant, running);
      const { where, exportName = "" } = running;
      const uri = `nbd+unix:///${exportName}?socket=${where}`;
      if (hasFio)
        for (const depth of [1, 32])
          trials.push({
            ...{ client: `fio, 4K read × ${depth}`, server, unit: "requests/s" },
            value: await readsByFio(uri, depth, Math.max(1, plan.seconds)),
          });
      if (hasCopy)
        trials.push({
          ...{ client: "nbdcopy, all of it", server, unit: "MiB/s" },
          value: await copyMibPerSecond(uri),
        });
    }),
  );
  progress.clear();
  return trials;
}
