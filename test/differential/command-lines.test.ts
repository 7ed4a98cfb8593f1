// The same command lines for nbdkit and asyncnbd: the same exit status and the same output.

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { run } from "../support/command.js";
import {
  asyncnbd,
  clean,
  debianPlugin,
  nbdkit,
  serverEnvironment,
  testPlugin,
} from "../support/server.js";
import { COMMAND_DIFFERENCES, OPTION_DIFFERENCES } from "./allow-list.js";

interface Result {
  readonly status: number;
  readonly stdout: string;
}

interface Results {
  readonly nbdkit: Result;
  readonly asyncnbd: Result;
}

/** Each server has a folder of its own there, with the same files. */
let directory: string;

const SCRIPT = `case "$1" in
  config) [ "$2" = key ] && exit 0; echo "EINVAL no $2" >&2; exit 1 ;;
  get_size) echo 512 ;;
  pread) exit 0 ;;
  *) exit 2 ;;
esac`;

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "asyncnbd-test-"));
  for (const name of ["nbdkit", "asyncnbd"]) {
    const folder = join(directory, name);
    mkdirSync(join(folder, "dir"), { recursive: true });
    writeFileSync(join(folder, "disk.sh"), SCRIPT, { mode: 0o755 });
    writeFileSync(join(folder, "no-script"), SCRIPT);
    writeFileSync(join(folder, "disk.img"), "x".repeat(1234));
    writeFileSync(join(folder, "a=b.img"), "x".repeat(100));
  }
});

afterAll(() => rmSync(directory, { recursive: true, force: true }));

async function both(args: readonly string[], environment: NodeJS.ProcessEnv = {}) {
  const runIn = async (name: string, command: readonly string[], env: NodeJS.ProcessEnv) => {
    const options = { cwd: join(directory, name), env: { ...env, ...environment } };
    const { status, stdout } = await run([...command, ...args], options);
    return { status, stdout };
  };
  const [theirs, ours] = await Promise.all([
    runIn("nbdkit", nbdkit, process.env),
    runIn("asyncnbd", asyncnbd, serverEnvironment()),
  ]);
  return { nbdkit: theirs, asyncnbd: ours } as Results;
}

/**
 * The same status and, of success, the same output: nbdkit prints its usage with some errors.
 * Returns the status.
 */
async function expectSame(
  args: readonly string[],
  environment: NodeJS.ProcessEnv = {},
): Promise<number> {
  const { nbdkit: theirs, asyncnbd: ours } = await both(args, environment);
  expect([args, ours.status]).toEqual([args, theirs.status]);
  if (theirs.status === 0) expect(ours.stdout).toBe(theirs.stdout);
  return ours.status;
}

const MEMORY = debianPlugin("memory");
const NULL = debianPlugin("null");
const SIZE = clean('nbdinfo --size "$uri"');
const SIZE_AND_MODE = clean('nbdinfo --size "$uri"; nbdinfo --is read-only "$uri"; echo $?');

/** With a command that prints the export's size. */
const sized = (...words: string[]): string[] => ["-U", "-", ...words, "--run", SIZE];

/** The same for words of which none is an option. */
const sizedLast = (...words: string[]): string[] => ["-U", "-", "--run", SIZE, "--", ...words];

const ACCEPTED_SIZES = [
  ...["1", "0", "+5", "08", " 1", "4294967296", "9007199254740993", "9223372036854775807"],
  ...["1b", "1B", "1s", "1S", "1k", "1K", "1m", "1M", "1g", "1G", "1t", "1T", "1p", "1P"],
  ...["1e", "7E", "8191P", "size=512M", "-0"],
];

const REFUSED_SIZES = [
  ...["8E", "8192P", "9223372036854775808", "99999999999999999999", "-1", "-1k", "--1", "++1"],
  ...["1q", "1KiB", "1MB", "1 G", "1 ", "1\n", "1.5G", "1,5", "1_000", "1e3", "0x10", "inf"],
  ...["G", "size", "", "size=", "1k5", "٣", "size=size=1"],
];

const PARAMETERS: string[][] = [
  [],
  ["1=2"],
  ["=1M"],
  ["="],
  ["1M="],
  ["9a=1"],
  ["_a=1"],
  ["-a=1", "1M"],
  ["SIZE=1M"],
  ["size =1M"],
  ["1M", "2M"],
  ["size=1M", "2M"],
  ["2M", "size=1M"],
  ["size=1M", "size=2M"],
  ["nosuch=1", "1M"],
  ["a.b-c_d=1", "1M"],
  ["a b=1", "1M"],
  ["1M", "size"],
  ["1M", "allocator=sparse"],
  ["1M", "allocator=zstd"],
  ["1M", "allocator=nosuch"],
  ["1M", ""],
];

describe("parameters", () => {
  test.concurrent.each(ACCEPTED_SIZES)("memory %j", async (word) => {
    expect(await expectSame(sizedLast(MEMORY, word))).toBe(0);
  });

  test.concurrent.each(REFUSED_SIZES)("memory %j, not a size", async (word) => {
    expect(await expectSame(sizedLast(MEMORY, word))).toBe(1);
  });

  test.concurrent.each(PARAMETERS.map((words) => [words]))("memory %j", async (words) => {
    await expectSame(sized(MEMORY, ...words));
  });

  const others: [string, string[]][] = [
    ["sh", ["disk.sh"]],
    ["sh", ["./disk.sh"]],
    ["sh", ["script=disk.sh"]],
    ["sh", ["script=disk.sh", "key=value"]],
    ["sh", ["disk.sh", "key=", "key=a=b"]],
    ["sh", ["disk.sh", "nosuch=value"]],
    ["sh", ["disk.sh", "bare"]],
    ["sh", ["key=value", "disk.sh"]],
    ["sh", ["disk.sh", "script=disk.sh"]],
    ["sh", ["/nonexistent/script"]],
    ["sh", ["no-script"]],
    ["sh", ["dir"]],
    ["sh", []],
    ["eval", ["get_size=echo 1M", "pread=exit 0"]],
    ["eval", ["get_size=echo 1M"]],
    ["eval", ["bare"]],
    ["file", ["disk.img"]],
    ["file", ["file=disk.img"]],
    ["file", ["a=b.img"]],
    ["file", ["./a=b.img"]],
    ["file", ["file=a=b.img"]],
    ["file", ["missing.img"]],
    ["file", ["dir"]],
    ["file", ["disk.img", "disk.img"]],
    ["file", ["disk.img", "dir=."]],
    ["file", ["disk.img", "fadvise=nosuch"]],
    ["file", []],
    ["data", ["1 2 3"]],
    ["data", ["@0x10 1"]],
    ["data", ["bad("]],
    ["data", ["raw=abc", "size=1M"]],
    ["data", ["base64=AAAA", "1"]],
    ["null", []],
    ["null", ["1M", "1M"]],
    ["zero", ["1M"]],
    ["example1", []],
    ["example2", ["disk.img"]],
    ["ondemand", ["dir=.", "1M"]],
    ["info", ["mode=exportname"]],
    ["split", ["disk.img", "disk.img"]],
    ["partitioning", ["disk.img"]],
    ["floppy", ["dir"]],
  ];
  test.concurrent.each(others)("%s %j", async (plugin, words) => {
    await expectSame(sized(debianPlugin(plugin), ...words));
  });

  test.concurrent.each([
    ["dir=dir"],
    ["directory=dir"],
    ["directory=missing"],
    ["directory=dir", "disk.img"],
  ])("file %s %s, each server's own plugin", async (...words) => {
    await expectSame(["-U", "-", "file", ...words.filter(Boolean), "--run", "exit 3"]);
  });

  test.concurrent.each([
    [sized("example4", "size=1048576")],
    [sized("example4", "script=x")],
    [["-U", "-", "-r", "--run", SIZE_AND_MODE, "--", "example4", "size=1048576"]],
    [["-U", "-", "example4", "--run", "true"]],
  ])("a program named nbdkit-example4-plugin: %j", async (line) => {
    await expectSame(line);
  });

  test.concurrent.each(["example4", "S3"])("--dump-plugin of the program %s", async (name) => {
    const { nbdkit: theirs, asyncnbd: ours } = await both([name, "--dump-plugin"]);
    const sorted = ({ status, stdout }: Result) => [status, stdout.split("\n").sort()];
    expect(sorted(ours)).toEqual(sorted(theirs));
  });

  test.concurrent.each(["file", "memory", "null"])(
    "%s by its short name is each server's own",
    async (name) => {
      await expectSame(sized(name, name === "file" ? "disk.img" : "1M"));
      await expectSame(sized(name, "nosuch=1"));
    },
  );
});

/** Each stands between -U - and the plugin. */
const OPTIONS = [
  ...["-r", "-rv", "-fr", "-frv", "-vr", "-ffff", "-nr", "--readonly", "--read-only", "--read"],
  ...["--foregr", "--no-f", "--exit-with-parent", "--exit", "--verb", "--vers=1", "--he=1"],
  ...["--export=x", "--exportn=x", "--expor=x", "--ex=x", "--e=x", "-ex", "-e", "-eü"],
  ...["-t1", "-t0", "-t", "--threads=2", "--threads=0x4", "--threads=010", "--threads=-1"],
  ...["--threads=x", "--threads=", "--threads=99999999999", "--thr=3", "--t=1", "--threads"],
  ...["--mask-handshake=0", "--mask-handshake=0xffff", "--mask-handshake=x", "--ma=1"],
  ...[
    "--mask-handshake=-1",
    "--mask-handshake=",
    "--m=1",
    "--newstyle",
    "--new",
    "-n",
    "--no",
    "--no-sr",
  ],
  ...["--log=stderr", "--log=null", "--log=syslog", "--log=paper", "--log=", "--log=STDERR"],
  ...["--tls=off", "--tls=OFF", "--tls=no", "--tls=maybe", "--tls=require", "--tls", "--ta"],
  ...["--tls=on", "--tls-certificates=x", "--tls-verify-peer", "--tls-psk=/nonexistent"],
  ...["-Dmemory.dir=0", "-Dmemory.nosuch=1", "-Dnosuch.x=1", "-Dmemory", "-D.dir=1", "-Dmemory.=1"],
  ...["-Dmemory.dir=-1", "-Dmemory.dir=+1", "-Dmemory.dir=0x1", "-Dmemory.dir=010"],
  ...["-Dmemory.dir=08", "-Dmemory.dir=1 ", "-Dmemory.dir= 1", "-Dmemory.dir=2147483648"],
  ...["-Dmemory.a.b=1", "-Dmem=ory.dir=1", "-t+2", "-t 2", "-t08", "-t-0"],
  ...["-Dmemory.dir=", "-Dmemory.dir=x", "-D", "-i127.0.0.1", "-i999.1.1.1", "--ip=1", "--i=1"],
  ...[
    "-4",
    "-6",
    "-46",
    "-s",
    "-p1",
    "--port=1",
    "--nosuch",
    "-Z",
    "-S",
    "-?",
    "-h",
    "--readonly=1",
  ],
  ...["--foreground=", "--u=x", "--s", "--p=1", "--filter=nosuch", "--vsock", "-", "--=x", "---"],
];

describe("options", () => {
  test.concurrent.each(OPTIONS)("%s", async (option) => {
    await expectSame(["-U", "-", option, MEMORY, "1M", "--run", SIZE_AND_MODE]);
  });

  const orders: string[][] = [
    [MEMORY, "1M", "-U", "-", "-r", "--run", SIZE_AND_MODE],
    [MEMORY, "-U-", "1M", "--run", SIZE_AND_MODE, "-r"],
    ["--run", SIZE_AND_MODE, "-rU-", MEMORY, "1M"],
    ["-rU", "-", "--run", SIZE_AND_MODE, "--", MEMORY, "1M"],
    ["-U", "-", "--run", SIZE_AND_MODE, MEMORY, "--", "1M"],
    ["-U", "-", "--run", SIZE_AND_MODE, "--", MEMORY, "1M", "-r"],
    ["-U", "-", "--run", SIZE_AND_MODE, "--", "-r", MEMORY, "1M"],
    ["-U", "-", "--run", SIZE_AND_MODE, MEMORY, "1M", "--", "--"],
    ["-U", "-", `--run=${SIZE_AND_MODE}`, MEMORY, "1M"],
    ["-U", "-", MEMORY, "1M", "--run", "exit 4", "--run", "true"],
    ["-U", "-", MEMORY, "1M", "--run", "true", "--run", "exit 4"],
    ["-U", "-", MEMORY, "1M", "-t", "0", "-t", "x", "--run", "true"],
    ["-U", "-", "./nosuch.so", "1M", "--run", "true"],
    ["-U", "-", "nosuchplugin", "1M", "--run", "true"],
    ["-U", "-", "/etc/passwd", "1M", "--run", "true"],
    ["-U", "-", "", "--run", "true"],
    ["-U", "-", "dir", "--run", "true"],
    ["-U", "-", "./", "--run", "true"],
  ];
  test.concurrent.each(orders.map((line) => [line]))("%j", async (line) => {
    await expectSame(line);
  });

  test.concurrent.each(orders.slice(0, 8).map((line) => [line]))(
    "%j with POSIXLY_CORRECT",
    async (line) => {
      await expectSame(line, { POSIXLY_CORRECT: "1" });
    },
  );

  const errors: string[][] = [
    ["-U", "x", "-p", "1", NULL, "--run", "true"],
    ["-s", NULL, "--run", "true"],
    ["-s", "-p", "1", NULL],
    ["-s", "-U", "-", NULL],
    ["-s", NULL, "--dump-plugin"],
    ["-f", "-U", "-", "-u", "nosuchuser", NULL],
    ["-f", "-U", "-", "-g", "nosuchgroup", NULL],
    ["-U", `/tmp/${"x".repeat(200)}`, "-f", NULL],
    ["-U", "/nonexistent/sock", "-f", NULL],
    ["-U", "disk.img", "-f", NULL],
    ["-U", "dir", "-f", NULL],
    ["-P", "/nonexistent/pid", "-U", "-", "-f", NULL],
    ["-p", "x", NULL, "--run", "true"],
    ["-p", "-1", NULL, "--run", "true"],
    ["-p", "nosuchservice", NULL, "--run", "true"],
    ["-p", "1", "-i", "999.1.1.1", NULL, "--run", "true"],
    ["--dump-plugin"],
    ["--dump-plugin", "nosuchplugin"],
    ["--dump-plugin", MEMORY, "nosuch=1"],
    ["--dump-plugin", MEMORY, "size=huge"],
    ["--version", "nosuchplugin"],
    ["--help", "nosuchplugin"],
    ["--version", "--nosuch"],
    ["--port"],
    ["--run"],
    ["--run", "true"],
    ["-r"],
    ["--"],
    [],
  ];
  test.concurrent.each(errors.map((line) => [line]))("%j is an error for both", async (line) => {
    const { nbdkit: theirs, asyncnbd: ours } = await both(line);
    expect([ours.status, theirs.status]).toEqual([1, 1]);
  });

  test.concurrent.each(Object.entries(OPTION_DIFFERENCES))(
    "%s differs as the allow-list says",
    async (option, allowed) => {
      const results = await both(["-U", "-", option, MEMORY, "1M", "--run", "true"]);
      expect([results.nbdkit.status, results.asyncnbd.status]).toEqual([
        allowed.nbdkit,
        allowed.asyncnbd,
      ]);
    },
  );
});

const RUN_COMMANDS = [
  ...["true", "false", "exit 3", "exit 255", "exit 256", "", "nosuchcommand", "syntax (", "cat"],
  ...["kill -1 $$", "kill -2 $$", "kill -6 $$", "kill -9 $$", "kill -11 $$", "kill -15 $$"],
  ...["echo a; echo b >&2", "exec 1>&-", "/etc/passwd", "set -u; echo $tls", "umask", "ulimit -n"],
];

const EXPORT_NAMES = [
  ...["", "x", "a b/ü&c", "it's", "100%", "a?b#c", '"quoted" $HOME', "/", "//", "/a/", "a+b=c;d:e"],
  ...["%41", "@~!*(x)[y]{z}", "`id`$(id)\\", "a\nb", "-", "--", "|<>^,", "\x01", "x".repeat(300)],
];

describe("--run", () => {
  test.concurrent.each(RUN_COMMANDS)("%j gives the same exit status", async (command) => {
    await expectSame(["-U", "-", NULL, "--run", clean(command)]);
  });

  test.concurrent.each(["TERM", "INT", "HUP", "QUIT"])(
    "the command goes on after SIG%s to the server",
    async (signal) => {
      const [log, pid] = [`log-${signal}`, `pid-${signal}`];
      const kill = `while ! test -s ${pid}; do sleep 0.01; done; kill -${signal} $(cat ${pid})`;
      const wait = `while ! grep -q unload ${log}; do sleep 0.01; done`;
      const command = clean(`${kill}; ${wait}; echo still here >>${log}; exit 3`);
      const plugin = [testPlugin("calllog"), `log=${log}`];
      expect(await expectSame(["-U", "-", "-P", pid, ...plugin, "--run", command])).toBe(3);
      const [theirs, ours] = ["nbdkit", "asyncnbd"].map((server) =>
        readFileSync(join(directory, server, log), "utf8"),
      );
      expect(ours).toBe(theirs);
      expect(ours).toMatch(/unload.*still here\n$/s);
    },
  );

  test.concurrent.each(EXPORT_NAMES)("sets the same variables for -e %j", async (name) => {
    // The private folders have different names.
    const command = 'echo "$uri|$nbd|$exportname|$port|${unixsocket##*/}" | sed "s,/tmp/[^/]*/,,g"';
    const line = ["-U", "-", "-e", name, NULL, "1M", "--run", clean(command)];
    expect(await expectSame(line)).toBe(0);
  });

  test.concurrent("sets the same variables for a socket with a name", async () => {
    const command =
      'echo "$nbd|$unixsocket|$port" | sed "s,/tmp/[^?|]*/,,g"; nbdinfo --size "$uri"';
    expect(await expectSame(["-U", "a socket", NULL, "1M", "--run", clean(command)])).toBe(0);
  });

  test.concurrent("exports no variables", async () => {
    const command = 'env | grep -E "^(uri|nbd|port|unixsocket|exportname)=" || echo none';
    await expectSame(["-U", "-", NULL, "--run", clean(command)]);
  });

  test.concurrent("lets the command write and read the same data", async () => {
    const command = 'nbdcopy disk.img "$uri" && nbdcopy "$uri" - | cksum';
    const line = ["-U", "-", MEMORY, "1M", "--run", clean(command)];
    expect(await expectSame(line)).toBe(0);
    expect(await expectSame(["-r", ...line])).not.toBe(0);
  });

  const IS_TCP = 'case "$uri" in nbd://*) printf tcp;; *) printf unix;; esac';
  const IS_CHOSEN = 'if [ "$port" = 0 ]; then printf 0; else printf chosen; fi';
  test.each([
    ["--run without -U", [NULL, "--run", clean(IS_TCP)]],
    ["-p 0", ["-p", "0", NULL, "--run", clean(IS_CHOSEN)]],
  ])("%s differs as the allow-list says", async (title, args) => {
    const { nbdkit: theirs, asyncnbd: ours } = COMMAND_DIFFERENCES[title] ?? {};
    expect(await both(args)).toEqual({ nbdkit: theirs, asyncnbd: ours });
  });
});

const DUMPED = ["memory", "file", "null", "pattern", "data", "sh", "eval", "split", "nbd", "curl"];

describe("queries", () => {
  test.concurrent.each(DUMPED)("--dump-plugin prints the same for nbdkit's %s", async (name) => {
    expect(await expectSame([debianPlugin(name), "--dump-plugin"])).toBe(0);
  });

  test.concurrent("--dump-plugin takes parameters and other options", async () => {
    await expectSame(["--dump-plugin", debianPlugin("sh"), "disk.sh"]);
    await expectSame(["--dump-plugin", "-r", "-U", "-", MEMORY, "1M", "--run", "exit 3"]);
  });

  test.concurrent.each([
    ["--help"],
    ["--version"],
    ["-V"],
    ["--dump-config"],
    ["--long-options"],
    ["--short-options"],
    ["--help", MEMORY],
    ["--vers", MEMORY],
    ["--help", "--version"],
    ["--dump-config", MEMORY],
    ["--help", "--dump-plugin", MEMORY],
  ])("%j %j succeeds", async (...args) => {
    const line = args.filter((word) => word !== undefined);
    const { nbdkit: theirs, asyncnbd: ours } = await both(line);
    expect([ours.status, theirs.status]).toEqual([0, 0]);
  });

  test.concurrent.each(["memory", "sh"])("--version has %s's version in line 2", async (name) => {
    const { nbdkit: theirs, asyncnbd: ours } = await both(["--version", debianPlugin(name)]);
    expect(ours.stdout.split("\n").slice(1)).toEqual(theirs.stdout.split("\n").slice(1));
  });

  test.concurrent("--dump-config has nbdkit's keys and the machine's type", async () => {
    const { nbdkit: theirs, asyncnbd: ours } = await both(["--dump-config"]);
    const valuesOf = ({ stdout }: Result) =>
      Object.fromEntries(stdout.split("\n").map((line) => line.split("=") as [string, string]));
    const [expected, values] = [valuesOf(theirs), valuesOf(ours)];
    expect(Object.keys(values)).toEqual(expect.arrayContaining(Object.keys(expected)));
    const same = [
      "exit_with_parent",
      "host_cpu",
      "host_os",
      "root_tls_certificates_dir",
      "plugindir",
    ];
    for (const key of [...same, "sysconfdir", "tls", "version_major"])
      expect([key, values[key]]).toEqual([key, expected[key]]);
    expect(values.version).toBe(`${values.version_major}.${values.version_minor}.5`);
  });
});
