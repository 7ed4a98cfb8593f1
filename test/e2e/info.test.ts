// What nbdinfo shows of an export, over unix sockets and TCP, with our plugins and Debian's.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { runOk } from "../support/command.js";
import { debianPlugin, startServer, temporaryDirectory } from "../support/server.js";

interface NbdInfo {
  exports: Record<string, unknown>[];
}

async function nbdinfo(...args: string[]): Promise<NbdInfo> {
  return JSON.parse(await runOk(["nbdinfo", "--json", ...args])) as NbdInfo;
}

const WRITABLE = {
  is_read_only: false,
  can_flush: true,
  can_fua: true,
  can_trim: true,
  can_zero: true,
  can_multi_conn: true,
  can_cache: true,
};

describe.each(["unix", "tcp"] as const)("over %s", (transport) => {
  test.each([
    ["memory", ["memory", "64M"], 67108864, WRITABLE],
    ["null", ["null", "1G"], 1073741824, WRITABLE],
    ["nbdkit's memory", [debianPlugin("memory"), "64M"], 67108864, WRITABLE],
    ["nbdkit's null", [debianPlugin("null"), "1s"], 512, WRITABLE],
    ["nbdkit's pattern", ["pattern", "1M"], 1048576, { is_read_only: true, can_multi_conn: true }],
    ["nbdkit's data", ["data", "1 2 3"], 3, { is_read_only: false, can_multi_conn: true }],
  ])("%s shows its size and what it can do", async (_name, plugin, size, facts) => {
    const server = await startServer(plugin, { transport });
    const { exports } = await nbdinfo(server.uri);
    expect(exports).toHaveLength(1);
    expect(exports[0]).toMatchObject({ "export-name": "", "export-size": size, ...facts });
    await server.stop();
  });
});

test("a read-only server offers no command that writes", async () => {
  const server = await startServer(["memory", "1M"], { options: ["-r"] });
  const { exports } = await nbdinfo(server.uri);
  expect(exports[0]).toMatchObject({
    is_read_only: true,
    can_fua: false,
    can_trim: false,
    can_zero: false,
    can_flush: true,
  });
  await server.stop();
});

test("--list shows every file of a directory as an export", async () => {
  const directory = temporaryDirectory();
  writeFileSync(join(directory, "a.img"), Buffer.alloc(512));
  writeFileSync(join(directory, "b with spaces.img"), Buffer.alloc(1024));
  const server = await startServer(["file", `dir=${directory}`]);
  const { exports } = await nbdinfo("--list", server.uri);
  const sizes = exports.map((e) => [e["export-name"], e["export-size"]]).sort();
  expect(sizes).toEqual([
    ["a.img", 512],
    ["b with spaces.img", 1024],
  ]);
  await server.stop();
});

test("a script's export has its description, block sizes and name", async () => {
  const directory = temporaryDirectory();
  const script = join(directory, "disk.sh");
  writeFileSync(
    script,
    `case "$1" in
       get_size) echo 1M ;;
       pread) head -c "$3" /dev/zero ;;
       default_export) echo canonical ;;
       export_description) echo "a disk of zeroes" ;;
       block_size) echo 512 65536 1M ;;
       *) exit 2 ;;
     esac`,
    { mode: 0o755 },
  );
  const server = await startServer(["sh", script]);
  const { exports } = await nbdinfo(server.uri);
  expect(exports[0]).toMatchObject({
    description: "a disk of zeroes",
    block_size_minimum: 512,
    block_size_preferred: 65536,
    block_size_maximum: 1048576,
    is_read_only: true,
  });
  const listed = await nbdinfo("--list", server.uri);
  expect(listed.exports[0]).toMatchObject({ "export-name": "canonical" });
  await server.stop();
});
