// Native filters that decide who is let in, to what, and for how long, against nbdkit with its own:
// the same clients see the same, and both servers end alike.

import { describe, expect, test } from "vitest";
import { debianPlugin } from "../support/server.js";
import { expectSameOutput, looking } from "./both.js";

const memory = debianPlugin("memory");
const file = debianPlugin("file");

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
