// Plugins that are programs: nbdkit-NAME-plugin without ".so".

import { chmodSync, copyFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { run } from "../support/command.js";
import {
  asyncnbd,
  clean,
  runAsyncnbd,
  serverEnvironment,
  temporaryDirectory,
} from "../support/server.js";

const SIZE = clean('nbdinfo --size "$uri"');

/** Runs the command where there is a program nbdkit-own-plugin. */
function runWith(script: string, args: readonly string[], input?: string) {
  const directory = temporaryDirectory();
  writeFileSync(join(directory, "nbdkit-own-plugin"), script, { mode: 0o755 });
  return runAsyncnbd(args, {
    env: { ASYNCNBD_PLUGIN_PATH: directory },
    ...(input !== undefined && { input }),
  });
}

/** The plugin "file" is the interpreter: the disk is the script itself. */
test.each([
  "#!/nowhere/nbdkit file\n",
  "#! /usr/local/sbin/nbdkit \t file \n",
  "#!/usr/bin/env -S nbdkit file\n",
  "#!/usr/bin/env --split-string=/usr/bin/nbdkit file\n",
])("a script with the first line %j is run by this server", async (script) => {
  const { stdout, stderr } = await runWith(script, ["own", "--run", SIZE]);
  expect([stdout, stderr]).toEqual([`${script.length}\n`, ""]);
});

test("options in the script's first line count, as do those of the command", async () => {
  const script = "#!/usr/bin/env -S nbdkit -e one file\n";
  const { stdout } = await runWith(script, ["own", "-r", "--run", clean('echo "$exportname"')]);
  expect(stdout).toBe("one\n");
});

test("any other program takes the process's place, with options first and its own name", async () => {
  const script = '#!/bin/sh\nprintf "%s," "$0" "$@"; cat\n';
  const args = ["-e", "x y", "own", "--threads=3", "key=a b"];
  const { stdout } = await runWith(script, args, "input");
  expect(stdout).toMatch(/nbdkit-own-plugin,-e,x y,--threads=3,key=a b,input/);
});

test("the command's exit status is the program's", async () => {
  expect((await runWith("#!/bin/sh\nexit 42\n", ["own"])).status).toBe(42);
});

test("it inherits the command's descriptors and signals, and nothing of Node's", async () => {
  const directory = temporaryDirectory();
  const script =
    "#!/bin/sh\nreadlink /proc/$$/fd/5 /proc/$$/fd/6; env | grep -c ^ASYNCNBD_[RI]; grep SigIgn /proc/$$/status\n";
  writeFileSync(join(directory, "nbdkit-own-plugin"), script, { mode: 0o755 });
  const { stdout } = await run(
    ["sh", "-c", `trap "" USR2; ${asyncnbd.join(" ")} own 5</etc/passwd`],
    {
      env: { ...serverEnvironment(), ASYNCNBD_PLUGIN_PATH: directory },
    },
  );
  expect(stdout).toMatch(/^\/etc\/passwd\n0\nSigIgn:\s*0*800\n$/);
});

test("a program that may be executed but not read is executed", async () => {
  const directory = temporaryDirectory();
  const path = join(directory, "nbdkit-own-plugin");
  copyFileSync("/bin/true", path);
  chmodSync(path, 0o111);
  const { status } = await runAsyncnbd(["own"], { env: { ASYNCNBD_PLUGIN_PATH: directory } });
  expect(status).toBe(0);
});

test("a program that cannot be executed is an error in one line", async () => {
  const { status, stderr } = await runWith("#!/nonexistent/interpreter\n", ["own"]);
  expect(status).toBe(1);
  expect(stderr).toMatch(/^asyncnbd: error: cannot execute .*nbdkit-own-plugin: No such file.*\n$/);
});
