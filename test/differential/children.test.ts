// What programs that plugins start are given, at each stage of a plugin's life, is what nbdkit gives
// them: signals, standard streams, numbers of descriptors.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { run } from "../support/command.js";
import {
  asyncnbd,
  clean,
  debianPlugin,
  eventually,
  nbdkit,
  serverEnvironment,
  temporaryDirectory,
  testPlugin,
} from "../support/server.js";

interface Outcome {
  readonly status: number;
  readonly stdout: string;
  /** Without the server's own lines. */
  readonly stderr: string;
  /** A line of children.c for each stage. */
  readonly stages: string[];
}

const COPY = clean('nbdcopy "$uri" - >/dev/null');
/** nbdkit serves with SIGPIPE ignored, which children inherit; ours find the default always. */
const SIGPIPE_IGNORED = /(?<=^\w+ \w+ \w{12})1(?=\w{3} )/;
/** Once sockets are open, which numbers are free is the server's affair, and from 10 on always. */
const LOWEST = /(?<=^(?!config|get_ready).*)lowest=\d+|lowest=\d\d+/;

/** As a shell runs it, with $server, $plugin and $log. */
async function outcomeOf(server: readonly string[], line: string, input = ""): Promise<Outcome> {
  const directory = temporaryDirectory();
  const log = join(directory, "log");
  const env = {
    ...(server === nbdkit ? process.env : serverEnvironment()),
    server: server.join(" "),
    plugin: testPlugin("children"),
    log,
  };
  const finished = await run(["sh", "-c", line], { cwd: directory, env, input });
  const lines = await eventually("the plugin's end", () => {
    const text = readFileSync(log, "utf8");
    return /^cleanup /m.test(text) ? text.trimEnd().split("\n") : undefined;
  });
  return {
    ...finished,
    stderr: finished.stderr.replace(/^(asyncnbd|nbdkit): .*\n/gm, ""),
    stages: lines.map((line) => line.replace(SIGPIPE_IGNORED, "0").replace(LOWEST, "")),
  };
}

const BACKGROUND = `$server -U sock -P pid $plugin log=$log && uri='nbd+unix:///?socket=sock'
  ${COPY}; kill $(cat pid)`;
const FOREGROUND = `$server -f -U sock -P pid $plugin log=$log & while ! [ -s pid ] && kill -0 $!; do sleep 0.02; done
  uri='nbd+unix:///?socket=sock'; ${COPY}; kill $(cat pid); wait`;
const SINGLE = clean(
  "/usr/bin/python3 -c 'import nbd, sys; h = nbd.NBD(); h.connect_command(sys.argv[1:]); " +
    "h.pread(512, 0); h.shutdown()' $server -s $plugin log=$log",
);

describe("programs started by a plugin inherit the same", () => {
  test.each([
    ["in the foreground", FOREGROUND],
    ["in the background", BACKGROUND],
    ["with --run", `$server -U - $plugin log=$log --run '${COPY}; echo done; cat'`],
    ["with --single", SINGLE],
    [
      "with --run, whose command gets the rest of a file that the plugin has begun to read",
      `printf abcdef >in; $server -U - $plugin log=$log read=2 --run '${COPY}; cat' <in`,
    ],
    ["with descriptors of the user", `exec 5<. 7>&1; ${FOREGROUND}`],
    ["with signals that are ignored", `trap "" HUP INT PIPE USR1 USR2 XFSZ; ${BACKGROUND}`],
    ["with all of 3 to 9", `exec 3<. 4<. 5<. 6<. 7<. 8<. 9<.; ${BACKGROUND}`],
  ])("%s", async (_, line) => {
    const [theirs, ours] = await Promise.all([
      outcomeOf(nbdkit, line, "in"),
      outcomeOf(asyncnbd, line, "in"),
    ]);
    expect(ours).toEqual(theirs);
    expect(ours.stages[0]).toMatch(/^config /);
  });
});

describe("a plugin ends the server if it calls nbdkit_shutdown in", () => {
  const stages = ["config_complete", "get_ready", "after_fork"];
  test.each(stages)("%s", async (stage) => {
    // Before it serves, nbdkit writes to its standard input then, which a socket would not stand.
    const alone = `</dev/null $server -f -U sock $plugin log=$log shutdown=${stage}`;
    for (const line of [alone, `${alone} --run 'exit 5'`])
      expect(await outcomeOf(asyncnbd, line)).toEqual(await outcomeOf(nbdkit, line));
  });
});

const SH = 'case "$1" in get_size) echo 1M;; *) exit 2;; esac\n';
const size = (words: string) => `$server -U - ${words} --run '${clean('nbdinfo --size "$uri"')}'`;
const data = (program: string) =>
  `$server -U - ${debianPlugin("data")} '<( ${program} )' --run '${clean('nbdcopy "$uri" -')}'`;

describe("plugins of nbdkit that start programs do the same", () => {
  const cases: [string, string, string][] = [
    ["sh -, which reads its script from stdin", size(`${debianPlugin("sh")} -`), SH],
    ["data, whose program tells its signals", data("grep ^Sig[BI] /proc/self/status"), ""],
    ["data, whose program passes on a descriptor", `exec 6<. ; ${data("ls -d /dev/fd/6/.")}`, ""],
    [
      "data, whose program never ends by itself",
      data("while :; do echo x; done").replace(" )' ", " )[:400]' "),
      "",
    ],
    [
      "tmpdisk, whose command complains",
      size(`${debianPlugin("tmpdisk")} 1M command='echo hi >&2; echo ho; truncate -s $size $disk'`),
      "",
    ],
    ["iso, whose program writes to a descriptor", size(`${debianPlugin("iso")} .`), ""],
  ];
  test.each(cases)("%s", async (_, line, input) => {
    const both = await Promise.all(
      [nbdkit, asyncnbd].map(async (server) => {
        const cwd = temporaryDirectory();
        writeFileSync(join(cwd, "xorriso"), "#!/bin/sh\nprintf %1024s x\n", { mode: 0o755 });
        const env = { ...(server === nbdkit ? process.env : serverEnvironment()) };
        Object.assign(env, { server: server.join(" "), PATH: `${cwd}:${env.PATH}` });
        return run(["sh", "-c", line], { cwd, env, input });
      }),
    );
    expect(both[1]).toEqual(both[0]);
    expect(both[1]?.status).toBe(0);
  });
});
