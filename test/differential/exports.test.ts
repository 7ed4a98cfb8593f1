// The same plugins under nbdkit and asyncnbd: the same size, flags, names and data.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { run } from "../support/command.js";
import { writePattern } from "../support/fixtures.js";
import {
  asyncnbd,
  debianPlugin,
  nbdkit,
  startServer,
  temporaryDirectory,
  testPlugin,
} from "../support/server.js";

/** What nbdinfo says of every export, but for what the servers rightly differ in. */
async function describeExports(
  command: readonly string[],
  plugin: readonly string[],
  options: readonly string[],
): Promise<unknown> {
  const server = await startServer(plugin, { command, options });
  const facts = [];
  for (const args of [[], ["--list"]]) {
    const { status, stdout } = await run(["nbdinfo", "--json", ...args, server.uri]);
    const exports = status === 0 ? JSON.parse(stdout).exports : [];
    facts.push(
      status,
      exports.map((entry: Record<string, unknown>) =>
        Object.entries(entry).filter(([key]) => !/^(uri|contexts|can_df|content|block_)/.test(key)),
      ),
    );
  }
  await server.stop();
  return facts;
}

async function expectSame(
  plugin: readonly string[],
  options: readonly string[] = [],
): Promise<void> {
  const theirs = await describeExports(nbdkit, plugin, options);
  expect(await describeExports(asyncnbd, plugin, options)).toEqual(theirs);
}

function script(text: string): string {
  const path = join(temporaryDirectory(), "disk.sh");
  writeFileSync(path, `case "$1" in\n${text}\n*) exit 2 ;;\nesac`, { mode: 0o755 });
  return path;
}

describe.each([
  ["writable", []],
  ["read-only", ["-r"]],
])("a %s export", (_name, options) => {
  test.each([
    ["nbdkit's memory", [debianPlugin("memory"), "1M"]],
    ["nbdkit's null", [debianPlugin("null"), "1M"]],
    ["nbdkit's pattern", [debianPlugin("pattern"), "1M"]],
    ["nbdkit's data", [debianPlugin("data"), "1 2 3"]],
    ["our memory", [testPlugin("memory"), "1M"]],
    ["our null", [testPlugin("null"), "1M"]],
    ["a version 1 plugin", [testPlugin("version1")]],
    ["a plugin that fails to open", [testPlugin("probe"), "fail=open"]],
    ["a plugin without a default export", [testPlugin("probe"), "fail=default_export"]],
  ])("of %s is the same", async (_plugin, plugin) => {
    await expectSame(plugin, options);
  });

  test.each(["file", "memory"])(
    "of %s is the same from nbdkit's plugin and from ours",
    async (name) => {
      const disk = join(temporaryDirectory(), "disk.img");
      writePattern(disk, 1 << 20);
      const parameter = name === "file" ? disk : "1M";
      const theirs = await describeExports(nbdkit, [debianPlugin(name), parameter], options);
      expect(await describeExports(asyncnbd, [name, parameter], options)).toEqual(theirs);
    },
  );
});

describe("a script's answers", () => {
  const base = "get_size) echo 1M ;;\npread) exit 0 ;;";
  test.each([
    ["nothing more", ""],
    ["can_write", "can_write) exit 0 ;;"],
    ["can_write: false", "can_write) exit 3 ;;"],
    ["can_write: failure", "can_write) echo EIO no >&2; exit 1 ;;"],
    ["flush", "can_write|can_flush) exit 0 ;;"],
    ["trim", "can_write|can_trim) exit 0 ;;"],
    ["trim, read-only", "can_trim) exit 0 ;;"],
    ["zero", "can_write|can_zero) exit 0 ;;"],
    ["zero: false", "can_write) exit 0 ;;\ncan_zero) exit 3 ;;"],
    ["fast zero", "can_write|can_zero|can_fast_zero) exit 0 ;;"],
    ["fast zero: false", "can_write|can_zero) exit 0 ;;\ncan_fast_zero) exit 3 ;;"],
    ["FUA native", "can_write) exit 0 ;;\ncan_fua) echo native ;;"],
    ["FUA emulated", "can_write|can_flush) exit 0 ;;\ncan_fua) echo emulate ;;"],
    ["FUA none", "can_write|can_flush) exit 0 ;;\ncan_fua) echo none ;;"],
    ["FUA nonsense", "can_write) exit 0 ;;\ncan_fua) echo maybe ;;"],
    ["cache native", "can_cache) echo native ;;"],
    ["cache emulated", "can_cache) echo emulate ;;"],
    ["multi-conn", "can_multi_conn) exit 0 ;;"],
    [
      "multi-conn, one connection",
      "can_multi_conn) exit 0 ;;\nthread_model) echo serialize_connections ;;",
    ],
    ["rotational", "is_rotational) exit 0 ;;"],
    ["extents", "can_extents) exit 0 ;;\nextents) exit 0 ;;"],
    ["a list of exports", "list_exports) echo NAMES; echo a; echo 'b c'; echo '' ;;"],
    [
      "described exports",
      "list_exports) echo NAMES+DESCRIPTIONS; echo a; echo first ;;\nexport_description) echo text ;;",
    ],
    ["a list that fails", "list_exports) exit 1 ;;"],
    ["a default export", 'default_export) echo canonical ;;\nopen) echo "$3" ;;'],
    ["a default export that fails", "default_export) exit 1 ;;"],
    ["open that fails", "open) echo EPERM no >&2; exit 1 ;;"],
    ["a size that is none", "get_size) echo huge ;;"],
    ["preconnect that fails", 'preconnect) [ -n "$NEVER" ] || exit 1 ;;'],
  ])("with %s make the same export", async (_name, answers) => {
    // The first match wins, so that an answer can replace one of the base.
    await expectSame([debianPlugin("sh"), script(`${answers}\n${base}`)]);
  });
});
