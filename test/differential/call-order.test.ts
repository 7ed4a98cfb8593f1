// The same sessions with nbdkit and asyncnbd: the same callbacks in the same order with the same
// arguments, from load to unload, as a C plugin and scripts have logged them.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "vitest";
import { MIB } from "../support/fixtures.js";
import { OPT, REP } from "../support/protocol.js";
import { goData } from "../support/raw-client.js";
import { debianPlugin, temporaryDirectory, testPlugin } from "../support/server.js";
import {
  ask,
  compare,
  EVERY_COMMAND,
  go,
  requests,
  SESSIONS,
  type Session,
  WITHOUT_FAST_ZERO,
  withRequests,
} from "./call-log.js";

const { GO } = OPT;

describe("a C plugin's calls, when a client", () => {
  test.each(SESSIONS)("%s", async (_name, session) => {
    await compare((log) => [testPlugin("calllog"), `log=${log}`], session);
  });

  test.each(SESSIONS)("%s, read-only", async (_name, session) => {
    await compare((log) => [testPlugin("calllog"), `log=${log}`], session, ["-r"]);
  });
});

describe("a C plugin's calls for every command, with", () => {
  test.each([
    ["can_fua=0"],
    ["can_fua=1"],
    ["can_zero=0"],
    ["can_zero=0", "can_fua=1"],
    ["can_trim=0"],
    ["can_flush=0"],
    ["can_cache=0"],
    ["can_cache=1"],
    ["can_write=0"],
    ["errno=95"],
    ["errno=95", "can_fua=1"],
    ["errno=28"],
    ["can_multi_conn=0", "is_rotational=1", "can_extents=0"],
    ["thread_model=0"],
    ["thread_model=1"],
    ["thread_model=2"],
    ["can_write=-1"],
    ["can_fua=-1"],
    ["can_extents=-1"],
  ])("%s %s %s", async (...answers) => {
    const given = answers.filter((answer): answer is string => typeof answer === "string");
    const session: Session = async (client) => {
      const type = await ask(client, GO, goData("one"));
      return type === REP.ACK ? requests(client, EVERY_COMMAND) : type;
    };
    await compare((log) => [testPlugin("calllog"), `log=${log}`, ...given], session);
  });

  // A fast zero where none was offered ends nbdkit 1.32 by an assertion.
  test.each([["can_fast_zero=0"], ["can_fast_zero=0", "errno=95"]])("%s %s", async (...answers) => {
    const given = answers.filter((answer): answer is string => typeof answer === "string");
    const session = withRequests(go("one"), WITHOUT_FAST_ZERO);
    await compare((log) => [testPlugin("calllog"), `log=${log}`, ...given], session);
  });
});

describe("a script's calls, when a client", () => {
  const scripts: readonly [string, (log: string) => readonly string[]][] = [
    [
      "sh",
      (log) => {
        const path = join(temporaryDirectory(), "disk.sh");
        const text = `#!/bin/sh
          case $1 in
            pwrite) cat >/dev/null ;;
          esac
          echo "$@" >> ${log}
          case $1 in
            list_exports) echo NAMES; echo one ;;
            default_export) echo the-default ;;
            open) echo handle ;;
            get_size) echo ${64 * MIB} ;;
            pread) head -c "$3" /dev/zero ;;
            pwrite|flush|trim|zero|cache|can_write|can_flush|can_trim|can_zero) ;;
            can_fast_zero|can_extents) ;;
            can_fua) echo native ;;
            *) exit 2 ;;
          esac`;
        writeFileSync(path, text, { mode: 0o755 });
        return [debianPlugin("sh"), path];
      },
    ],
    [
      "eval",
      (log) => [
        debianPlugin("eval"),
        ...[
          ...["get_ready", "after_fork", "preconnect", "list_exports", "default_export"],
          ...["open", "get_size", "can_write", "can_flush", "can_fast_zero", "can_zero", "close"],
          ...["pread", "pwrite", "flush", "zero"],
        ].map((callback) => {
          const answer: Record<string, string> = {
            get_size: `echo ${64 * MIB}`,
            open: "echo handle",
            pwrite: "cat >/dev/null",
            pread: 'head -c "$3" /dev/zero',
          };
          return `${callback}=echo ${callback} "$@" >> ${log}; ${answer[callback] ?? ":"}`;
        }),
      ],
    ],
  ];
  const cases = scripts.flatMap(([name, plugin]) =>
    SESSIONS.filter(([title]) => !title.startsWith("sends every command after")).map(
      ([title, session]) => [title, name, plugin, session] as const,
    ),
  );
  test.each(cases)("%s (%s)", async (_title, _name, plugin, session) => {
    let make: readonly string[] | undefined; // the same script for both: its path is in the log
    await compare((log) => {
      make ??= plugin(log);
      return make;
    }, session);
  });
});
