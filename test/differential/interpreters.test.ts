// Plugins in other languages under nbdkit and asyncnbd: the interpreters find their own libraries
// and symbols, and are used, ended and heard alike from load to unload.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { run, runOk } from "../support/command.js";
import { MIB, patternBytes } from "../support/fixtures.js";
import { buildPlugin, languageSource } from "../support/languages.js";
import { asyncnbd, eventually, nbdkit, startServer } from "../support/server.js";
import { expectSame, expectSameOutput, messages } from "./both.js";

/** The words that name a plugin and its script. */
const SCRIPTS: readonly [string, readonly string[]][] = [
  ["python", ["python", languageSource("disk.py")]],
  ["perl", ["perl", languageSource("disk.pl")]],
  ["lua", ["lua", languageSource("disk.lua")]],
  ["tcl", ["tcl", languageSource("disk.tcl")]],
];

interface Session {
  readonly stdout: string;
  readonly said: readonly string[];
  readonly readBack: boolean;
  readonly refused: number;
}

/** A life in the foreground: written to, read from, asked for a sector it cannot read, stopped. */
async function session(
  command: readonly string[],
  plugin: readonly string[],
  options: readonly string[],
): Promise<Session> {
  const server = await startServer([...plugin, "word=it's"], { command, options, noProbe: true });
  const [image, copy] = ["image", "copy"].map((name) => join(server.directory, name));
  writeFileSync(image as string, patternBytes(MIB));
  await runOk(["nbdcopy", image as string, server.uri]);
  const nbdsh = ["/usr/bin/python3", "-m", "nbd", "-u", server.uri];
  const { status } = await run([...nbdsh, "-c", `h.pread(512, ${666 * 512})`]);
  const read = `data = b"".join(h.pread(65536, at) for at in range(0, ${MIB}, 65536))`;
  const write = `open("${copy}", "wb").write(data)`;
  await runOk([...nbdsh, "-c", read, "-c", write]);
  const closed = (): number => server.stderr().match(/^close/gm)?.length ?? 0;
  const clients = plugin[0] === "perl" ? 0 : 3; // threads that serve clients cannot say it in Perl
  await eventually("closes", () => (closed() === clients ? true : undefined));
  const { stdout, stderr } = await server.stop();
  const readBack = readFileSync(image as string).equals(readFileSync(copy as string));
  return { stdout, said: messages(stderr, server.directory), readBack, refused: status };
}

async function expectSameSession(
  plugin: readonly string[],
  options: readonly string[] = [],
): Promise<Session> {
  const [theirs, ours] = await Promise.all([
    session(nbdkit, plugin, options),
    session(asyncnbd, plugin, options),
  ]);
  expect(ours).toEqual(theirs);
  expect([ours.readBack, ours.refused]).toEqual([true, 1]);
  return ours;
}

describe.each(SCRIPTS)("a plugin in %s", (name, plugin) => {
  test("gets the same calls from load to unload, and keeps its data", async () => {
    const { said } = await expectSameSession(plugin);
    expect(said).toContainEqual(expect.stringMatching(/^config word /));
  });

  const words = plugin.map((word) => `"${word}"`).join(" ");

  test.concurrent.each([
    ["--run", `server -U - ${words} word=x --run 'nbdinfo --size "$uri"'; echo $?`],
    ["--run and a command that fails", `server -U - ${words} --run 'exit 7'`],
    ["--dump-plugin", `server --dump-plugin ${words} | sort`],
    ["a parameter that it refuses", `server -U - ${words} nosuch=1 --run true`],
    ["a script that is not there", `server -U - ${name} /nonexistent/script --run true`],
    ["a script that is none", `echo '((( "' > bad; server -U - ${name} ./bad --run true`],
    [
      "a client on its standard input and output",
      `/usr/bin/python3 -m nbd -c 'import os; h.connect_command([*os.environ["SERVER"].split("|"), "-s",
        ${plugin.map((word) => `"${word}"`).join(", ")}])' \
        -c 'h.pwrite(b"x" * 512, 512); print(h.get_size(), h.pread(2, 511)); h.shutdown()'`,
    ],
  ])("with %s does the same", async (_title, text) => {
    await expectSame(text);
  });

  test("ends with a server in the background", async () => {
    const { stdout } = await expectSameOutput(
      `server -U $PWD/sock -P $PWD/pid ${words}
       nbdinfo --size "nbd+unix:///?socket=$PWD/sock"
       pid=$(cat pid); kill $pid; tail --pid=$pid -s 0.01 -f /dev/null; echo ended`,
    );
    expect(stdout).toMatch(/1048576\nended/);
  });
});

describe("a compiled plugin", () => {
  // Of Go, nbdkit can only have it in the foreground: its runtime does not survive a fork.
  test("in Go gets the same calls from load to unload, and keeps its data", async () => {
    const plugin = await buildPlugin("go");
    await expectSameSession([plugin]);
  });

  test("in OCaml gets the same calls from load to unload, and keeps its data", async () => {
    const plugin = await buildPlugin("ocaml");
    await expectSameSession([plugin]);
    await expectSame(`server -U - ${plugin} word=x --run 'nbdinfo --size "$uri"'; echo $?`);
  });
});
