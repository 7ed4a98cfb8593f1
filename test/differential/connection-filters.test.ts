// Native filters that decide who is let in, to what, and for how long, against nbdkit with its own:
// the same clients see the same, and both servers end alike.

import { describe, expect, test } from "vitest";
import { debianPlugin } from "../support/server.js";
import { expectSameOutput } from "./both.js";

const memory = debianPlugin("memory");
const file = debianPlugin("file");

/** Runs `look` with the server's URI. */
const looking = (words: string, look: string): string =>
  `server -U - ${words} --run '${look.replaceAll("'", `'\\''`)}'`;

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

describe("ip", () => {
  const look = 'nbdinfo --size "$uri" 2>/dev/null; echo $?';
  test.each([
    "",
    "allow=all",
    "deny=all",
    "allow=anyunix deny=all",
    "allow=ANYUNIX deny=Any",
    "allow=anyipv4 deny=all",
    "allow=uid:$(id -u) deny=all",
    "allow=gid:$(id -g) deny=anyunix",
    "allow=uid:12345 deny=all",
    "deny=uid:$(id -u)",
    "deny=anyipv4,anyipv6",
    "deny=pid:1",
    "allow=pid:1 deny=allunix",
    "allow= deny=any",
    "allow=any, deny=any",
    "deny=all allow=pid:1 allow=anyunix",
  ])("over a unix socket, %s", async (rules) => {
    await expectSameOutput(looking(`--filter=ip ${memory} 1M ${rules}`, look));
  });

  // Debian's nbdkit was built without rules for addresses; see e2e/connection-filters.test.ts.
  test.each([
    ["127.0.0.1", "allow=anyipv4 deny=all"],
    ["127.0.0.1", "deny=allipv4"],
    ["127.0.0.1", "deny=anyipv6,anyunix,anyvsock"],
    ["127.0.0.1", "deny=uid:0"], // which nbdkit 1.32 takes at the end of a list only
    ["::1", "deny=anyipv4"],
    ["::1", "deny=allipv6"],
  ])("over TCP from %s, %s", async (address, rules) => {
    const host = address.includes(":") ? `[${address}]` : address;
    await expectSameOutput(`
port=$((20000 + RANDOM))
server -f -i ${address} -p $port -P pid --filter=ip ${memory} 1M ${rules} &
until [ -s pid ] || ! kill -0 $! 2>/dev/null; do sleep 0.05; done
nbdinfo --size nbd://${host}:$port 2>/dev/null; echo $?
kill $(cat pid); wait`);
  });

  test.each([
    "allow=anything",
    "allow=1.2.3",
    "allow=1.2.3.4/33",
    "allow=1.2.3.4/x",
    "allow=::1/129",
    "allow=pid:0",
    "deny=uid:-1",
    "deny=,all",
    "deny=vsock-cid:4294967296",
  ])("is refused by both: %s", async (rules) => {
    const { status } = await expectSameOutput(
      `server -U - --filter=ip ${memory} 1M ${rules} --run true`,
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

describe("exportname", () => {
  const look = `
nbdinfo --list --no-content "$uri" 2>&1 | grep "export=\\|description"
for name in "" one two none; do
  nbdinfo --no-content "nbd+unix:///$name?socket=$unixsocket" 2>/dev/null | grep "export=\\|export-size\\|description"
done`;
  const files = { one: "1".repeat(512), two: "2".repeat(1024) };
  test.each([
    "",
    "default-export=two",
    "default_export=none",
    "exportname-list=error",
    "exportname-list=empty",
    "exportname-list=default-only",
    "exportname-list=defaultonly default-export=two",
    "exportname-list=explicit",
    "exportname-list=explicit exportname=two exportname=one exportname=two",
    "exportname_list=keep exportname_strict=true",
    "exportname-strict=true exportname=one",
    "exportname-strict=true exportname=one default-export=one",
    "exportname-strict=true exportname= exportname=one default-export=one",
    "exportname-strict=true exportname= exportname=two exportname-list=explicit default-export=two",
    "exportname-list=defaultonly exportname-strict=true exportname=two",
    "exportdesc=none",
    "exportdesc=keep default-export=one",
    "exportdesc=fixed:words default-export=one",
    "exportdesc=fixed:",
    `exportdesc="script:echo \\"of \\$name\\"" default-export=two`,
    `exportdesc="script:printf x\\"\\\\n\\"y; exit 3" exportname-list=explicit exportname=a\\"b\\$c`,
    `exportdesc="script:exit 1"`,
    `exportdesc="script:head -c 10000 /dev/zero | tr '\\\\0' x"`,
  ])("%s", async (parameters) => {
    const words = `--filter=exportname ${file} dir=. ${parameters}`;
    await expectSameOutput(looking(words, look), files);
  });

  test.each(["exportname-strict=true exportname=", "exportname-strict=true exportname=one", ""])(
    "a plugin with its own default, %s",
    async (parameters) => {
      const script = `case $1 in
        default_export) echo two ;;
        list_exports) printf '%s\\n' INTERLEAVED one first two second ;;
        open) echo "$3" ;;
        get_size) case $2 in "") echo 512 ;; one) echo 1024 ;; *) echo 2048 ;; esac ;;
        pread) head -c "$3" /dev/zero ;;
        *) exit 2 ;;
      esac`;
      const sh = debianPlugin("sh");
      await expectSameOutput(looking(`--filter=exportname ${sh} disk.sh ${parameters}`, look), {
        "disk.sh": script,
      });
    },
  );

  test("in front of one of nbdkit's filters, and behind it", async () => {
    const parameters = "default-export=two exportname-strict=true exportname= exportname=two";
    for (const chain of ["exportname --filter=swab", "swab --filter=exportname"])
      await expectSameOutput(
        looking(`--filter=${chain} ${file} dir=. swab-bits=8 ${parameters}`, look),
        files,
      );
  });

  test.each(["exportname-list=some", "exportdesc=words", "exportname-strict=perhaps"])(
    "is refused by both: %s",
    async (parameters) => {
      const { status } = await expectSameOutput(
        `server -U - --filter=exportname ${memory} 1M ${parameters} --run true`,
      );
      expect(status).toBe(1);
    },
  );
});

describe("exitwhen", () => {
  const start = (words: string): string => `
server -f -U s --filter=exitwhen ${memory} 1M exit-when-poll=1 ${words} & server=$!
until [ -S s ] || ! kill -0 $server 2>/dev/null; do sleep 0.05; done`;
  test.each([
    ["a file is made", "exit-when-file-created=now", "touch now"],
    ["a file is removed", "exit-when-file-deleted=there", "rm there"],
    ["a script says so", `exit-when-script='test ! -e now || exit 88'`, "touch now"],
    ["one of several happens", "exit-when-file-created=a exit-when-file-created=b", "touch b"],
  ])("the server ends when %s", async (_what, words, event) => {
    const { stdout } = await expectSameOutput(
      `${start(words)}\nsleep 0.3; kill -0 $server && echo runs; ${event}; wait $server; echo $?`,
      { there: "" },
    );
    expect(stdout).toBe("runs\n0\n");
  });

  test.each(["exit-when-process-exits", "exit-when-pid-exits"])(
    "the server ends when a process ends: %s",
    async (parameter) => {
      await expectSameOutput(
        `sleep 100 & sleeper=$!\n${start(`${parameter}=$sleeper`)}
kill $sleeper; wait $server; echo $?`,
      );
    },
  );

  test.each(["exit-when-pipe-closed", "exit-when-fd-closed"])(
    "the server ends when a pipe is closed: %s",
    async (parameter) => {
      await expectSameOutput(
        `mkfifo p; sleep 100 > p & sleeper=$!\n${start(`${parameter}=7 7< p`)}
kill $sleeper; wait $server; echo $?`,
      );
    },
  );

  test("a client keeps the server until it leaves, and others are refused", async () => {
    const { stdout } = await expectSameOutput(
      `${start("exit-when-file-created=now")}
/usr/bin/python3 -c '
import nbd, time
h = nbd.NBD()
h.connect_unix("s")
open("now", "w")
time.sleep(1.5)
print(len(h.pread(512, 0)))
try:
    nbd.NBD().connect_unix("s")
    print("let in")
except nbd.Error:
    print("refused")
h.shutdown()
'
wait $server; echo $?`,
    );
    expect(stdout).toBe("512\nrefused\n0\n");
  });

  test("an event before the start ends the server at once", async () => {
    await expectSameOutput(
      `server -f -U s --filter=exitwhen ${memory} 1M exit-when-file-created=. ; echo $?`,
    );
  });

  test.each(["exit-when-process-exits=999999999", "exit-when-poll=x", "exit-when-pipe-closed=x"])(
    "is refused by both: %s",
    async (parameters) => {
      const { status } = await expectSameOutput(
        `server -U - --filter=exitwhen ${memory} 1M ${parameters} --run true`,
      );
      expect(status).toBe(1);
    },
  );
});

describe("pause", () => {
  test("requests wait, and the operator is answered", async () => {
    const { stdout } = await expectSameOutput(`
server -f -U s -P pid --filter=pause ${memory} 1M pause-control=control &
until [ -s pid ] || ! kill -0 $! 2>/dev/null; do sleep 0.05; done
/usr/bin/python3 -c '
import nbd, socket, time
control = socket.socket(socket.AF_UNIX)
control.connect("control")
def say(text):
    control.sendall(text.encode())
    return control.recv(100)
h = nbd.NBD()
h.connect_unix("s")
print(say("p"), say("p"), say(" \\n\\tx"))
requests = [h.aio_pread(nbd.Buffer(512), 0), h.aio_pwrite(nbd.Buffer(512), 0), h.aio_trim(512, 0)]
flush = h.aio_flush()
end = time.monotonic() + 0.5
while time.monotonic() < end: h.poll(50)
print([h.aio_command_completed(c) for c in requests], h.aio_command_completed(flush))
print(say("r"), say("r"))
while h.aio_in_flight() > 0: h.poll(-1)
print([h.aio_command_completed(c) for c in requests])
h.shutdown()
'
kill $(cat pid); wait; test -e control; echo $?`);
    expect(stdout).toContain("[False, False, False] True");
  });

  test.each(["", "pause-control=/nonexistent/control", `pause-control=/tmp/${"x".repeat(200)}`])(
    "is refused by both: %s",
    async (parameters) => {
      const { status } = await expectSameOutput(
        `server -U - --filter=pause ${memory} 1M ${parameters} --run true`,
      );
      expect(status).toBe(1);
    },
  );
});
