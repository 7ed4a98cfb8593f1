// Loads of fio, which reads again what it has written and compares.

import { expect } from "vitest";
import { type Finished, run } from "./command.js";
import { type RunningServer, temporaryDirectory } from "./server.js";

/** `load`: fio's options, but for those of verification. */
export const runFio = ({ uri }: RunningServer, load: readonly string[]): Promise<Finished> =>
  run(
    ["fio", "--name=verify", "--ioengine=nbd", `--uri=${uri}`, ...load].concat(
      "--verify=crc32c",
      "--verify_fatal=1",
    ),
    { cwd: temporaryDirectory() }, // where it leaves a file of its state
  );

export async function verifyByFio(server: RunningServer, load: readonly string[]): Promise<void> {
  expect(await runFio(server, load)).toMatchObject({ status: 0, stderr: "" });
}

/** Random reads and writes of 4 KiB at a depth: of so much of the disk, and so much in all. */
export const randomLoad = (depth: number, size: string, ioSize: string): string[] => [
  ...["--rw=randrw", "--bs=4k", `--iodepth=${depth}`, `--size=${size}`, `--io_size=${ioSize}`],
];

/** Four jobs on four connections, each with a part of the disk. */
export const fourJobs = (part: string): string[] => [
  ...["--rw=randwrite", "--bs=4k", "--iodepth=32", "--numjobs=4", "--do_verify=1"],
  ...[`--size=${part}`, `--offset_increment=${part}`],
];
