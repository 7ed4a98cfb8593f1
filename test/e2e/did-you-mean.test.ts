// A name that is slightly wrong is answered with the right one; a disk with how to serve it.

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { debianPlugin, runAsyncnbd, temporaryDirectory } from "../support/server.js";

test.each([
  ["an option", ["--threds=3", "memory", "1M"], "did you mean --threads?"],
  ["an option in another spelling", ["--read_only", "memory", "1M"], "did you mean --read-only?"],
  ["a C plugin", ["memroy", "1M"], 'did you mean "memory"?'],
  ["a program's name", ["exmaple4"], 'did you mean "example4"?'],
  ["a plugin in TypeScript", ["htpt"], 'did you mean "http"?'],
  ["a filter as the plugin", ["cow", "memory", "1M"], "it is a filter: use --filter=cow PLUGIN"],
  ["a filter", ["--filter=cwo", "memory", "1M"], 'did you mean "cow"?'],
  ["a C plugin's parameter", ["memory", "sise=1M"], 'did you mean "size"?'],
  ["nbdkit's own plugin's", [debianPlugin("file"), "fiel=x"], 'did you mean "file"?'],
  ["a parameter in TypeScript", ["ram", "sise=1M"], 'did you mean "size"?'],
  [
    "a filter's parameter",
    ["--filter=delay", "memory", "1M", "rdealy=1"],
    'did you mean "rdelay"?',
  ],
  ["a filter's, before TypeScript", ["--filter=delay", "ram", "wdealy=1"], '"wdelay"?'],
])("%s", async (_, words, hint) => {
  const { status, stderr } = await runAsyncnbd(["-f", ...words]);
  expect(status).toBe(1);
  expect(stderr).toContain(hint);
});

test.each([
  ["an option", ["--xyzzy", "memory", "1M"]],
  ["a plugin", ["xyzzy"]],
  ["a filter", ["--filter=xyzzy", "memory", "1M"]],
  ["a parameter", ["memory", "1M", "xyzzy=1"]],
  ["a wrong value of a right parameter", ["memory", "size=much"]],
])("%s unlike any other gets no suggestion", async (_, words) => {
  const { status, stderr } = await runAsyncnbd(["-f", ...words]);
  expect(status).toBe(1);
  expect(stderr).not.toContain("did you mean");
});

test.each([
  ["disk.img", "asyncnbd file disk.img"],
  ["./disk.img", "asyncnbd file ./disk.img"],
  ["disk", "asyncnbd file disk"],
  ["it's a disk.img", "asyncnbd file 'it'\\''s a disk.img'"],
  ["/dev/null", undefined], // a device of another kind
  ["folder", "asyncnbd file dir=folder"],
  ["./folder", "asyncnbd file dir=./folder"],
  ["https://example.org/disk.img?a&b", "asyncnbd http 'https://example.org/disk.img?a&b'"],
])("%s instead of a plugin", async (name, command) => {
  const cwd = temporaryDirectory();
  for (const file of ["disk.img", "disk", "it's a disk.img"]) writeFileSync(join(cwd, file), "x");
  mkdirSync(join(cwd, "folder"));
  const { status, stderr } = await runAsyncnbd(["-f", name], { cwd });
  expect(status).toBe(1);
  expect(stderr.trim().split("\n")).toHaveLength(1);
  if (command === undefined) expect(stderr).not.toContain("to serve it");
  else expect(stderr.endsWith(`; to serve it as a disk: ${command}\n`)).toBe(true);
});
