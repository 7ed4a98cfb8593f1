// Data written in every way is read back as written: qemu-io patterns and fio's verification.

import { truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { runOk } from "../support/command.js";
import { fourJobs, verifyByFio } from "../support/fio.js";
import { debianPlugin, startServer, temporaryDirectory } from "../support/server.js";

function makeDisk(bytes: number): string {
  const disk = join(temporaryDirectory(), "disk.img");
  writeFileSync(disk, "");
  truncateSync(disk, bytes);
  return disk;
}

const DISKS: [string, () => string[]][] = [
  ["our memory", () => ["memory", "256M"]],
  ["our file", () => ["file", makeDisk(256 << 20)]],
  ["our file behind cow", () => ["--filter=cow", "file", makeDisk(256 << 20)]],
  [
    "our memory behind a small write-back cache",
    () => ["--filter=cache", "memory", "256M", "cache-max-size=1M", "cache-on-read=1"],
  ],
  [
    "nbdkit's memory behind a write-through cache and a log",
    () =>
      ["--filter=log", "--filter=cache", debianPlugin("memory"), "256M"].concat(
        "logfile=/dev/null",
        "cache=writethrough",
      ),
  ],
  ["nbdkit's memory", () => [debianPlugin("memory"), "256M"]],
  ["nbdkit's file", () => [debianPlugin("file"), makeDisk(256 << 20)]],
];

async function qemuIo(uri: string, ...commands: string[]): Promise<void> {
  const output = await runOk([
    "qemu-io",
    "-f",
    "raw",
    ...commands.flatMap((command) => ["-c", command]),
    uri,
  ]);
  // qemu-io says it in words only.
  expect(output).not.toMatch(/failed|error/i);
}

describe.each(DISKS)("on %s", (_name, plugin) => {
  test("qemu-io reads its patterns back: written, zeroed, discarded, unaligned", async () => {
    const server = await startServer(plugin());
    await qemuIo(
      server.uri,
      "write -P 0x11 0 1M",
      "write -P 0x22 1M 3M",
      "write -P 0x33 100k 4k",
      "write -P 0x44 5000001 77777",
      "write -f -P 0x55 8M 64k",
      "flush",
      "read -P 0x11 0 100k",
      "read -P 0x33 100k 4k",
      "read -P 0x11 104k 920k",
      "read -P 0x22 1M 3M",
      "read -P 0x44 5000001 77777",
      "write -z 512k 1M",
      "write -z -u 2M 300k",
      "read -P 0 512k 1M",
      "read -P 0 2M 300k",
      "read -P 0x22 2348k 100k",
      "write -z 2600001 1001",
      "read -P 0 2600001 1001",
      "read -P 0x22 2601002 1000",
      "discard 3M 1M",
      "write -P 0x66 3M 1M",
      "read -P 0x66 3M 1M",
      "write -z 16M 200M",
      "read -P 0 200M 16M",
    );
    await server.stop();
  });

  test("fio verifies mixed random writes and reads at depth 64", async () => {
    const server = await startServer(plugin());
    await verifyByFio(server, [
      ...["--rw=randrw", "--bsrange=512-128k", "--bs_unaligned=0", "--iodepth=64", "--size=64M"],
      ...["--verify_backlog=512", "--random_generator=tausworthe64"],
    ]);
    await server.stop();
  });
});

test("fio verifies four jobs on four connections over TCP", async () => {
  const server = await startServer(["memory", "256M"], { transport: "tcp" });
  await verifyByFio(server, fourJobs("16M"));
  await server.stop();
});
