// The same command lines for nbdkit and asyncnbd: the same exit status and the same output.

import { describe, expect, test } from "vitest";
import { debianPlugin } from "../support/server.js";
import { OPTION_DIFFERENCES } from "./allow-list.js";
import { both, expectSame, MEMORY, NULL, type Result, SIZE_AND_MODE } from "./same-lines.js";

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
