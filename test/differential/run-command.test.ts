// The same commands after --run for nbdkit and asyncnbd: the same variables, output and exit status.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { clean, testPlugin } from "../support/server.js";
import { COMMAND_DIFFERENCES } from "./allow-list.js";
import { both, directory, expectSame, MEMORY, NULL } from "./same-lines.js";

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
