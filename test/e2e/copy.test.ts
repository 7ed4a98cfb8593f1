// Whole disks copied by nbdcopy and qemu-img, both ways, byte for byte.

import { truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { runOk } from "../support/command.js";
import { checksum, MIB, writePattern } from "../support/fixtures.js";
import { debianPlugin, startServer, temporaryDirectory } from "../support/server.js";

const SIZE = 64 * MIB;

describe.each(["unix", "tcp"] as const)("over %s", (transport) => {
  test("nbdcopy reads a served file with 4 connections", async () => {
    const directory = temporaryDirectory();
    const disk = join(directory, "disk.img");
    writePattern(disk, SIZE);
    const server = await startServer(["file", disk], { transport });
    const copy = join(directory, "copy.img");
    await runOk(["nbdcopy", "--connections=4", server.uri, copy]);
    expect(await checksum(copy)).toBe(await checksum(disk));
    await server.stop();
  });

  test("nbdcopy writes a served file with 4 connections", async () => {
    const directory = temporaryDirectory();
    const [source, disk] = [join(directory, "source.img"), join(directory, "disk.img")];
    writePattern(source, SIZE);
    writeFileSync(disk, "");
    truncateSync(disk, SIZE);
    const server = await startServer(["file", disk], { transport });
    await runOk(["nbdcopy", "--connections=4", "--flush", source, server.uri]);
    await server.stop();
    expect(await checksum(disk)).toBe(await checksum(source));
  });
});

test.each([
  ["our memory", "memory"],
  ["nbdkit's memory", debianPlugin("memory")],
])("a copy into %s and out again is the same", async (_name, plugin) => {
  const directory = temporaryDirectory();
  const [source, copy] = [join(directory, "source.img"), join(directory, "copy.img")];
  writePattern(source, SIZE);
  const server = await startServer([plugin, String(SIZE)]);
  await runOk(["nbdcopy", "--connections=4", source, server.uri]);
  await runOk(["nbdcopy", "--connections=4", "--requests=128", server.uri, copy]);
  expect(await checksum(copy)).toBe(await checksum(source));
  await server.stop();
});

describe("qemu-img", () => {
  test("tells the size of an export", async () => {
    const server = await startServer(["memory", "1234567"]);
    const info = JSON.parse(await runOk(["qemu-img", "info", "--output=json", server.uri]));
    expect(info).toMatchObject({ format: "raw", "virtual-size": 1234944 });
    await server.stop();
  });

  test("converts to qcow2 and back, and finds no difference", async () => {
    const directory = temporaryDirectory();
    const disk = join(directory, "disk.img");
    writePattern(disk, SIZE);
    const server = await startServer(["file", disk]);
    const qcow2 = join(directory, "disk.qcow2");
    await runOk(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", server.uri, qcow2]);
    await runOk(["qemu-img", "compare", "-f", "raw", "-F", "qcow2", server.uri, qcow2]);

    const target = await startServer(["memory", String(SIZE)]);
    await runOk(["qemu-img", "convert", "-n", "-f", "qcow2", "-O", "raw", qcow2, target.uri]);
    const same = await runOk(["qemu-img", "compare", "-f", "raw", "-F", "raw", disk, target.uri]);
    expect(same).toContain("Images are identical");
    await Promise.all([server.stop(), target.stop()]);
  });

  test("converts an image full of holes", async () => {
    const directory = temporaryDirectory();
    const sparse = join(directory, "sparse.img");
    writePattern(sparse, MIB);
    truncateSync(sparse, 512 * MIB);
    const server = await startServer(["memory", "512M"]);
    await runOk(["qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", sparse, server.uri]);
    await runOk(["qemu-img", "compare", "-f", "raw", "-F", "raw", sparse, server.uri]);
    await server.stop();
  });
});
