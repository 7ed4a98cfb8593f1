// Native filters that decide which requests pass, and when, against nbdkit with its own: multi-conn,
// protect and noparallel.

import { describe, expect, test } from "vitest";
import { debianPlugin } from "../support/server.js";
import { expectSameOutput, looking } from "./both.js";

const memory = debianPlugin("memory");

describe("multi-conn", () => {
  const look = `nbdinfo --no-content "$uri" 2>&1 | grep "can_multi_conn\\|can_fua\\|can_flush\\|export="; echo $?`;
  const shell = (answers: string) => ({
    sh: `#!/bin/bash
case $1 in
  get_size) echo 1M ;;
  pread) head -c $3 /dev/zero ;;
  can_write) ;;
  pwrite) cat >/dev/null ;;
  ${answers}
  *) exit 2 ;;
esac
`,
  });
  const plugins: [string, string][] = [
    ["can flush", "can_flush | flush) ;;"],
    ["has FUA", "can_flush | flush) ;; can_fua) echo native ;;"],
    ["has multi-conn", "can_flush | flush | can_multi_conn) ;;"],
    ["cannot flush", ""],
    ["serializes connections", "thread_model) echo serialize_connections ;; can_flush | flush) ;;"],
  ];
  test.each(
    ["auto", "emulate", "plugin", "disable", "unsafe"].flatMap((mode) =>
      plugins.map(([name, answers]) => [mode, name, answers] as const),
    ),
  )("mode %s with a plugin that %s", async (mode, _name, answers) => {
    const words = `--filter=multi-conn ${debianPlugin("sh")} ./sh multi-conn-mode=${mode}`;
    await expectSameOutput(looking(words, look), shell(answers));
  });

  test.each(
    ["connection", "conn", "fast", "off"].flatMap((track) => [
      [track, "multi-conn-exportname=false"],
      [track, "multi-conn-export-name=true"],
    ]),
  )("two clients that write and flush by turns, tracked by %s, %s", async (track, byName) => {
    const plugin = shell(
      `open) echo open-$3 >> calls; echo $3 ;; can_flush) ;; flush) echo flush-$2 >> calls ;;`,
    );
    const words = `--filter=multi-conn ${debianPlugin("sh")} ./sh`;
    const look = `/usr/bin/python3 -c '
import nbd, sys
one, other = nbd.NBD(), nbd.NBD()
for name, h in (("a", one), ("b", other)):
    h.set_export_name(name)
    h.connect_unix(sys.argv[1])
data = bytes(512)
known = 0
for step in "fF wf wF Wf rf WRrfF wWfF f wuf Wuf":
    h = one if step.islower() else other
    kind = step.lower()
    if kind == "w": h.pwrite(data, 0)
    if kind == "r": h.pread(512, 0)
    if kind == "u": h.pwrite(data, 0, nbd.CMD_FLAG_FUA)
    if kind == "f": h.flush()
    calls = open("calls").read().split()
    print(step, sorted(calls[known:]))
    known = len(calls)
one.shutdown(); other.shutdown()
' "$unixsocket"`;
    const { stdout } = await expectSameOutput(
      looking(`${words} multi-conn-track-dirty=${track} ${byName}`, look),
      plugin,
    );
    expect(stdout).toContain("flush-b");
  });
});

describe("protect", () => {
  const look = `io() { qemu-io -f raw "$@" "$uri" 2>&1 | grep -v "ops;\\|/sec\\|server reported" | sed "s/^qemu-io: .*: //"; }
for at in 0 511 512 1000 1024 1535 1536 4095; do
  io -c "write -P 1 $at 1" -c "write -P 0 $at 1" -c "write -P 1 $at 600" -c "write -P 0 $at 600"
done
nbdcopy "$uri" - | md5sum`;
  test.each([
    "protect=512-1023",
    "protect=-511 protect=1024-",
    "protect=~512-1023",
    "protect=0x200-0x3ff protect=600-1100",
    "protect=1-1 protect=2-2 protect=4000-",
    "",
  ])("%s", async (parameters) => {
    await expectSameOutput(looking(`--filter=protect ${memory} 4K ${parameters}`, look));
  });

  test.each(["9-1", "5", "a-b", "0-x", "~", ""])("both refuse protect=%s", async (range) => {
    const { status } = await expectSameOutput(
      `server -U - --filter=protect ${memory} 4K 'protect=${range}' --run true`,
    );
    expect(status).toBe(1);
  });
});

describe("noparallel", () => {
  // Four reads of 150 ms each, by one or two clients; of three times the least, as others may have the
  // processor.
  const look = `/usr/bin/python3 -c '
import nbd, sys, time
def clients(count):
    for _ in range(count):
        h = nbd.NBD()
        h.connect_unix(sys.argv[1])
        yield h
count = int(sys.argv[2])
open_clients = list(clients(count))
def elapsed():
    start = time.monotonic()
    pending = [(h, h.aio_pread(nbd.Buffer(512), 0)) for h in open_clients for _ in range(4 // count)]
    while pending:
        for h, _ in pending: h.poll(10)
        pending = [(h, c) for h, c in pending if not h.aio_command_completed(c)]
    return time.monotonic() - start
print(round(min(elapsed() for _ in range(3)) / 0.15))
' "$unixsocket"`;
  test.each(
    ["requests", "all-requests", "all_requests"].flatMap((mode) => [
      [mode, 1],
      [mode, 2],
    ]),
  )("serialize=%s, %d clients", async (mode, clients) => {
    const words = `--filter=noparallel --filter=delay ${memory} 1M rdelay=150ms serialize=${mode}`;
    await expectSameOutput(looking(words, `${look} ${clients}`));
  });

  test("a filter in front waits too", async () => {
    const words = `--filter=delay --filter=noparallel ${memory} 1M rdelay=150ms`;
    const { stdout } = await expectSameOutput(looking(words, `${look} 1`));
    expect(stdout).toBe("4\n");
  });

  test.each(["requests", "all-requests", "connections"])(
    "--dump-plugin and what clients are told, serialize=%s",
    async (mode) => {
      const words = `--filter=noparallel ${memory} serialise=${mode}`;
      await expectSameOutput(`server --dump-plugin ${words} | grep thread_model`);
      await expectSameOutput(
        looking(`${words} 1M`, 'nbdinfo --no-content "$uri" | grep can_multi_conn'),
      );
    },
  );
});
