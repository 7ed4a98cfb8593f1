// A client that is not ours, on a few of the cells: fio, through its engine for NBD.

import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { SIZE_BYTES } from "../support/lineup.mjs";
import { canRun } from "../support/servers.mjs";

/** @typedef {import("./cells.mjs").Cell} Cell */

export const WITNESS_CELLS = 12;
export const WITNESS_ROUNDS = 3;
/** About, of one measurement. */
export const WITNESS_SECONDS = 1.2;
const DIRECTIONS = { read: "randread", write: "randwrite", mix: "randrw" };

/** @param {Cell} cell */
const canDo = ({ transport, kind, connections }) =>
  transport !== "tls" && kind in DIRECTIONS && connections === 1;

/**
 * At most a dozen, from all over the table.
 * @param {readonly Cell[]} cells
 * @returns {readonly Cell[]}
 */
export function witnessed(cells) {
  const able = cells.filter(canDo);
  const step = Math.max(1, able.length / WITNESS_CELLS);
  return able.filter((_, i) => Math.floor(i / step) !== Math.floor((i - 1) / step));
}

export const hasWitness = () => canRun("fio", "--enghelp=nbd");

/**
 * Requests a second.
 * @param {import("../support/servers.mjs").Running} running
 * @param {Cell} cell
 */
export async function witness({ where, exportName = "" }, { transport, kind, bytes, depth }) {
  const uri =
    transport === "unix"
      ? `nbd+unix:///${exportName}?socket=${where}`
      : `nbd://127.0.0.1:${where}/${exportName}`;
  const { stdout } = await promisify(execFile)("fio", [
    ...["--name=witness", "--ioengine=nbd", `--uri=${uri}`, "--output-format=json"],
    ...[`--rw=${DIRECTIONS[/** @type {keyof typeof DIRECTIONS} */ (kind)]}`, `--bs=${bytes}`],
    ...[`--iodepth=${depth}`, `--size=${SIZE_BYTES}`, "--norandommap", "--randrepeat=0"],
    ...["--time_based", "--runtime=600ms", "--ramp_time=100ms"],
  ]);
  const [{ read, write }] = JSON.parse(stdout.slice(stdout.indexOf("{"))).jobs;
  return /** @type {number} */ (Math.round(read.iops + write.iops));
}
