// The same command lines for nbdkit and asyncnbd: the same exit status and the same output.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { run } from "../support/command.js";
import {
  asyncnbd,
  clean,
  debianPlugin,
  nbdkit,
  serverEnvironment,
  temporaryDirectory,
} from "../support/server.js";
import { COMMAND_DIFFERENCES } from "./allow-list.js";

interface Result {
  readonly status: number;
  readonly stdout: string;
}

async function both(args: readonly string[]): Promise<{ nbdkit: Result; asyncnbd: Result }> {
  const env = serverEnvironment();
  const [theirs, ours] = await Promise.all([
    run([...nbdkit, ...args]),
    run([...asyncnbd, ...args], { env }),
  ]);
  return {
    nbdkit: { status: theirs.status, stdout: theirs.stdout },
    asyncnbd: { status: ours.status, stdout: ours.stdout },
  };
}

/** The same status and, of success, the same output: nbdkit prints its usage with some errors. */
async function expectSame(args: readonly string[]): Promise<void> {
  const { nbdkit: theirs, asyncnbd: ours } = await both(args);
  expect([args, ours.status]).toEqual([args, theirs.status]);
  if (theirs.status === 0) expect(ours.stdout).toBe(theirs.stdout);
}

const MEMORY = debianPlugin("memory");
const SIZE = clean('nbdinfo --size "$uri"');

/** With a command that prints the export's size. */
const sized = (...words: string[]): string[] => ["-U", "-", ...words, "--run", SIZE];

describe("parameters", () => {
  test.each([
    ["1G"],
    ["size=512M"],
    ["1"],
    ["1b"],
    ["1s"],
    ["1k"],
    ["1K"],
    ["1m"],
    ["1t"],
    ["1P"],
    ["7E"],
    ["+5"],
    ["0"],
    ["010"],
    ["8E"],
    ["9223372036854775807"],
    ["9223372036854775808"],
    ["-1"],
    ["1KiB"],
    ["1.5G"],
    ["0x10"],
    [""],
    ["size="],
    ["G"],
    ["1 G"],
    ["1=2"],
    ["1M", "2M"],
    ["size=1M", "2M"],
    ["nosuch=1", "1M"],
    ["1M", "size"],
    [],
  ])("memory %j", async (...words) => {
    await expectSame(sized(MEMORY, ...words.filter((word) => word !== undefined)));
  });

  test("bare words without a magic key are an error after the first", async () => {
    const script = join(temporaryDirectory(), "s.sh");
    writeFileSync(script, 'case "$1" in get_size) echo 512;; pread) exit 0;; *) exit 2;; esac', {
      mode: 0o755,
    });
    await expectSame(sized(debianPlugin("sh"), script));
    await expectSame(sized(debianPlugin("sh"), `script=${script}`, "key=value"));
    await expectSame(sized(debianPlugin("sh"), "/nonexistent/script"));
    await expectSame(sized(debianPlugin("sh")));
  });
});

describe("options", () => {
  const lines: string[][] = [
    ["-r", MEMORY, "1M"],
    [MEMORY, "1M", "-r", "-v"],
    ["--foregr", MEMORY, "1M"],
    ["--readonly", MEMORY, "1M"],
    ["--exportn", "x", MEMORY, "1M"],
    ["-t", "1", MEMORY, "1M"],
    ["-t0", MEMORY, "1M"],
    ["--threads=x", MEMORY, "1M"],
    ["-n", "--", MEMORY, "1M"],
    ["--mask-handshake=0", MEMORY, "1M"],
    ["--mask-handshake=x", MEMORY, "1M"],
    ["--no-sr", MEMORY, "1M"],
    ["--log=stderr", MEMORY, "1M"],
    ["--log=null", MEMORY, "1M"],
    ["--log=paper", MEMORY, "1M"],
    ["-D", "memory.dir=0", MEMORY, "1M"],
    ["-D", "memory.nosuch=1", MEMORY, "1M"],
    ["-D", "memory", MEMORY, "1M"],
    ["--nosuch", MEMORY, "1M"],
    ["-Z", MEMORY, "1M"],
    ["--tls=off", MEMORY, "1M"],
    ["-i", "127.0.0.1", MEMORY, "1M"],
    ["-s", MEMORY, "1M"],
    ["./nosuch.so", "1M"],
    ["nosuchplugin", "1M"],
    ["/etc/passwd", "1M"],
  ];
  test.each(lines.map((line) => [line]))("%j", async (line) => {
    await expectSame(sized(...line));
  });

  test.each([
    [["-U", "x", "-p", "1", "null", "--run", "true"]],
    [["-s", "null", "--run", "true"]],
    [["-s", "-p", "1", "null"]],
    [["-s", "null", "--dump-plugin"]],
    [["-f", "-U", "-", "-u", "nosuchuser", "null"]],
    [["-f", "-U", "-", "-g", "nosuchgroup", "null"]],
    [["-U", `/tmp/${"x".repeat(200)}`, "-f", "null"]],
    [["-U", "/nonexistent/sock", "-f", "null"]],
    [["-P", "/nonexistent/pid", "-U", "-", "-f", "null"]],
    [["--dump-plugin"]],
    [["--port"]],
    [["--run"]],
    [[]],
  ])("%j is an error for both", async (line) => {
    const { status } = (await both(line)).asyncnbd;
    expect(status).toBe((await both(line)).nbdkit.status);
    expect(status).toBe(1);
  });
});

describe("--run", () => {
  test.each([
    "true",
    "false",
    "exit 3",
    "kill -9 $$",
    "kill -15 $$",
    "kill -1 $$",
    "nosuchcommand",
  ])("%s gives the same exit status", async (command) => {
    await expectSame(["-U", "-", "null", "--run", clean(command)]);
  });

  test.each(["", "x", "a b/ü&c", "it's", "100%", "a?b#c", '"quoted" $HOME'])(
    "sets the same variables for the export name %j",
    async (name) => {
      // The private folders have different names.
      const command =
        'echo "$uri|$nbd|$exportname|$port|${unixsocket##*/}" | sed "s,/tmp/[^/]*/,,g"';
      await expectSame(["-U", "-", "-e", name, "null", "1M", "--run", clean(command)]);
    },
  );

  test("exports no variables", async () => {
    const command = 'env | grep -E "^(uri|nbd|port|unixsocket|exportname)=" || echo none';
    await expectSame(["-U", "-", "null", "--run", clean(command)]);
  });

  test("that would need a port differs as the allow-list says", async () => {
    const difference = COMMAND_DIFFERENCES["--run without -U"];
    const command = 'case "$uri" in nbd://*) printf tcp;; *) printf unix;; esac';
    expect(await both(["null", "--run", clean(command)])).toEqual({
      nbdkit: difference?.nbdkit,
      asyncnbd: difference?.asyncnbd,
    });
  });

  test("on a port that the kernel chooses differs as the allow-list says", async () => {
    const difference = COMMAND_DIFFERENCES["-p 0"];
    const command = 'if [ "$port" = 0 ]; then printf 0; else printf chosen; fi';
    expect(await both(["-p", "0", "null", "--run", clean(command)])).toEqual({
      nbdkit: difference?.nbdkit,
      asyncnbd: difference?.asyncnbd,
    });
  });
});

describe("questions", () => {
  test.each(["memory", "file", "null", "pattern", "data", "sh"])(
    "--dump-plugin says the same of nbdkit's %s",
    async (name) => {
      await expectSame([debianPlugin(name), "--dump-plugin"]);
    },
  );

  test.each([["--help"], ["--version"], ["-V"], ["--dump-config"]])(
    "%s succeeds",
    async (option) => {
      const { nbdkit: theirs, asyncnbd: ours } = await both([option]);
      expect([ours.status, theirs.status]).toEqual([0, 0]);
    },
  );

  test("--version PLUGIN has the plugin's version in its second line", async () => {
    const { nbdkit: theirs, asyncnbd: ours } = await both(["--version", MEMORY]);
    expect(ours.stdout.split("\n")[1]).toBe(theirs.stdout.split("\n")[1]);
  });

  test("--dump-config has nbdkit's keys where both have the thing", async () => {
    const { nbdkit: theirs, asyncnbd: ours } = await both(["--dump-config"]);
    const keys = (text: string) => text.split("\n").map((line) => line.split("=")[0]);
    for (const key of [
      "binary",
      "name",
      "plugindir",
      "version",
      "version_major",
      "version_minor",
      "tls",
    ])
      expect([key, keys(ours.stdout).includes(key), keys(theirs.stdout).includes(key)]).toEqual([
        key,
        true,
        true,
      ]);
  });
});
