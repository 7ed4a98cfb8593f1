// Filters that nbdkit has, too, with each of their parameters: clients see the same behind both, and
// the plugin gets the same calls.

import { describe, expect, test } from "vitest";
import { debianPlugin } from "../support/server.js";
import { expectSameOutput } from "./both.js";

/** What a client sees of a disk before and after it has written to it, without addresses. */
const LOOK = `
nbdinfo --no-content "$uri" | grep -v "uri:\\|block_size$hidden"
nbdinfo --map "$uri"
io() { qemu-io -f raw "$@" "$uri" 2>&1 | grep -v 'ops;\\|KiB/sec' | sed 's/^qemu-io: .*: //'; }
io -c 'read -P 0 0 64k' -c 'write -P 3 5000 100000' -c 'read -P 3 5000 100000' -c flush
io -c 'write -f -P 4 200k 4k' -c 'write -z 0 64k' -c 'write -z -u 128k 64k' -c 'write -z -n 64k 4k'
io -c 'discard 256k 100k' -c 'read -P 0 256k 100k' -c 'write -P 5 1000k 24k'
[ "$hidden" ] || nbdinfo --map "$uri"
nbdcopy "$uri" - | md5sum
qemu-io -r -f raw -c 'read -P 4 200k 4k' "$uri" | grep -v 'ops;'
`;

/** Which finds zeroes in what is written, and says so in its extents. */
const memory = debianPlugin("memory");

/** Shell that serves with these words and looks. */
const looking = (words: string): string => `
# nbdkit has no such filter, but an option.
readonly=--filter=readonly; [ "$SERVER" != nbdkit ] || readonly=-r
# nbdkit's cow zeroes by writing; ours keeps holes.
export hidden='${words.includes("cow") ? "\\|can_zero\\|can_fast_zero" : ""}'
server -U - ${words} --run '
${LOOK.replaceAll("'", `'\\''`)}'`;

describe("clients see the same behind", () => {
  test.each([
    "$readonly memory 1M",
    "--filter=delay memory 1M",
    ...["rdelay=10ms", "wdelay=10ms", "delay-read=10ms", "delay-write=10ms", "delay-zero=10ms"]
      .concat(["delay-trim=10ms", "delay-extents=10ms", "delay-cache=10ms", "delay-open=10ms"])
      .concat(["delay-close=10ms", "delay-zero=10ms delay-fast-zero=false"])
      .map((parameters) => `--filter=delay memory 1M ${parameters}`),
    "--filter=cow memory 1M",
    "--filter=cow null 1M",
    '--filter=cow data data="(0x11*300000)@500000 (0x22*100)" size=1M',
    ...["cow-block-size=4K", "cow-block-size=128K", "cow-on-cache=true", "cow-on-read=true"]
      .concat(["cow-on-read=false", "cow-on-read=/nonexistent", "cow-on-read=/"])
      .map((parameter) => `--filter=cow memory 1M ${parameter}`),
    `--filter=cache ${memory} 1M`,
    '--filter=cache data data="(0x11*300000)@500000 (0x22*100)" size=1M',
    ...["cache=writeback", "cache=writethrough", "cache-min-block-size=4K"]
      .concat(["cache-min-block-size=128K", "cache-max-size=1M", "cache-on-read=true"])
      .concat(["cache-max-size=8M cache-high-threshold=50 cache-low-threshold=10"])
      .concat(["cache-on-read=false", "cache-on-read=/nonexistent", "cache-on-read=/"])
      .map((parameters) => `--filter=cache ${memory} 1M ${parameters}`),
    `--filter=cache --filter=delay ${memory} 1M wdelay=1ms`,
    ...[
      "",
      "error-rate=0%",
      "error-rate=100%",
      "error-rate=1 error=EINVAL",
      "error-pread-rate=100%",
    ]
      .concat(["error-pwrite-rate=1 error-pwrite=ENOSPC", "error-trim-rate=1.0 error-trim=EPERM"])
      .concat(["error-zero-rate=1e0 error-zero=ENOMEM", "error-cache-rate=1"])
      .concat(["error-extents-rate=100.0% error-extents=ESHUTDOWN", "error=ENOSPC error-rate=.0"])
      .concat(["error-rate=100% error-file=/nonexistent", "error-rate=100% error-file=/"])
      .concat(["error-file=/nonexistent error-zero-rate=1 error-zero-file=/"])
      .map((parameters) => `--filter=error memory 1M ${parameters}`),
    ...[
      "",
      "logfile=log",
      "logfile=log logappend=true",
      "logscript='echo $act $type $id >> log'",
    ].map((parameters) => `--filter=log memory 1M ${parameters}`),
    ...["", "rate=1G", "connection-rate=1G", "rate=1G burstiness=0.5", "rate-file=/nonexistent"]
      .concat(["rate=1G connection-rate=500M connection-rate-file=/etc/hostname"])
      .map((parameters) => `--filter=rate memory 1M ${parameters}`),
    "--filter=cow --filter=delay memory 1M rdelay=1ms",
    "--filter=delay --filter=cow memory 1M wdelay=1ms",
  ])("%s", async (words) => {
    const { stdout } = await expectSameOutput(looking(words));
    expect(stdout).toContain("export-size: 1048576");
  });
});

// Extents of what is never written back are the plugin's with nbdkit, so a copy lacks it.
test("clients see the same behind a cache that ignores flushes, but for extents", async () => {
  const look = `
nbdinfo --no-content "$uri" | grep -v "uri:\\|block_size"
io() { qemu-io -f raw "$@" "$uri" 2>&1 | grep -v 'ops;\\|KiB/sec' | sed 's/^qemu-io: .*: //'; }
io -c 'write -P 3 5000 100000' -c flush -c 'write -f -P 4 200k 4k' -c 'write -z 0 64k'
io -c 'read -P 3 65536 39464' -c 'read -P 4 200k 4k' -c 'read -P 0 0 64k'`;
  const { stdout } = await expectSameOutput(
    `server -U - --filter=cache memory 1M cache=unsafe --run '${look.replaceAll("'", `'\\''`)}'`,
  );
  expect(stdout).toContain("can_fua: true");
});

test.each([
  "--filter=cache memory 1M cache=maybe",
  "--filter=cache memory 1M cache-min-block-size=5000",
  "--filter=cache memory 1M cache-min-block-size=1K",
  "--filter=cache memory 1M cache-max-size=1000K",
  "--filter=cache memory 1M cache-max-size=1M cache-high-threshold=0",
  "--filter=cache memory 1M cache-max-size=1M cache-low-threshold=0",
  "--filter=cache memory 1M cache-max-size=1M cache-low-threshold=95",
  "--filter=cache memory 1M cache-on-read=maybe",
  "--filter=cow memory 1M cow-block-size=5000",
  "--filter=cow memory 1M cow-block-size=1K",
  "--filter=cow memory 1M cow-on-read=maybe",
  "--filter=cow memory 1M cow-on-cache=maybe",
  "--filter=delay memory 1M rdelay=-1",
  "--filter=delay memory 1M delay-fast-zero=maybe",
  "--filter=delay memory 1M delay-open=x",
  "--filter=error memory 1M error=EDOM",
  "--filter=log memory 1M logfile=/nonexistent/log",
  "--filter=log memory 1M logfile=log logappend=maybe",
  "--filter=rate memory 1M rate=0",
  "--filter=rate memory 1M rate=fast",
  "--filter=rate memory 1M connection-rate=0",
  "--filter=rate memory 1M rate=1M rate=2M",
  "--filter=rate memory 1M burstiness=long",
  "--filter=stats memory 1M",
  "--filter=stats memory 1M statsfile=/nonexistent/stats",
  "--filter=stats memory 1M statsfile=st statsappend=maybe",
  "--filter=stats memory 1M statsfile=st statsthreshold=101",
  "--filter=stats memory 1M statsfile=st statsthreshold=-1",
  "--filter=error memory 1M error-rate=2",
  "--filter=error memory 1M error-rate=101%",
  "--filter=error memory 1M error-rate=-1%",
  "--filter=error memory 1M error-pread-rate=often",
  "--filter=error memory 1M error-pread-rate=5%5",
])("is refused by both: %s", async (words) => {
  const { status } = await expectSameOutput(`server -U - ${words} --run true`);
  expect(status).toBe(1);
});

// Zeroing and caching come as what the plugin can serve.
const SHELL_DISK = `#!/bin/bash
case $1 in
  open) truncate -s 1M disk ;;
  get_size) echo 1M ;;
  can_write | can_flush | can_fua) [ $1 != can_fua ] || echo emulate ;;
  can_cache) echo emulate ;;
  pread) dd if=disk bs=64K iflag=skip_bytes,count_bytes skip=$4 count=$3 status=none ;;
  pwrite) dd of=disk bs=64K oflag=seek_bytes seek=$4 conv=notrunc status=none ;;
  flush) ;;
  *) exit 2 ;;
esac
`;

test.each([
  ["error-pwrite-rate=100%", "zeroing fails as the writes that it is"],
  ["error-zero-rate=100%", "zeroing does not fail, as it is writes"],
  ["error-cache-rate=100%", "caching does not fail, as it is reads"],
  ["error-pread-rate=100%", "caching fails as the reads that it is"],
  ["error-extents-rate=100%", "extents do not fail where there are none"],
])("%s: %s", async (parameter) => {
  const look = `/usr/bin/python3 -m nbd --base-allocation -c '
import os
h.connect_uri(os.environ["uri"])
def tried(what):
  try: what(); print("done")
  except nbd.Error as error: print(error.errno)
tried(lambda: h.pwrite(b"x" * 512, 0, nbd.CMD_FLAG_FUA))
tried(lambda: h.zero(4096, 0))
tried(lambda: h.cache(4096, 0))
tried(lambda: h.block_status(4096, 0, lambda *all: None))
tried(lambda: h.pread(512, 0))'`;
  await expectSameOutput(
    `export look; look=$(cat look); server -U - --filter=error ${debianPlugin("sh")} ./sh ${parameter} --run 'export uri; sh -c "$look"'`,
    { sh: SHELL_DISK, look },
  );
});

/** A client that does everything, and lists exports before. */
const EVERYTHING = `
export uri; nbdinfo --list --no-content "$uri" >/dev/null
/usr/bin/python3 -m nbd --base-allocation -c '
import os
h.connect_uri(os.environ["uri"])
h.pwrite(b"x" * 512, 512)
h.pwrite(b"x" * 512, 0, nbd.CMD_FLAG_FUA)
h.pread(1000, 24)
h.pread_structured(70000, 0, lambda *all: None)
if h.can_zero(): h.zero(4096, 65536)
if h.can_zero(): h.zero(4096, 65536, nbd.CMD_FLAG_NO_HOLE)
if h.can_fast_zero():
  try: h.zero(4096, 65536, nbd.CMD_FLAG_FAST_ZERO | nbd.CMD_FLAG_FUA)
  except nbd.Error as error: print(error.errno)
if h.can_trim(): h.trim(4096, 8192, nbd.CMD_FLAG_FUA)
if h.can_flush(): h.flush()
if h.can_cache(): h.cache(4096, 0)
h.block_status(1 << 20, 0, lambda *all: None)
h.shutdown()'
qemu-io -r -f raw -c "read 0 1k" "$uri" >/dev/null
sleep 0.5 # before the server ends, and with it what nbdkit has still to say of the read
`;

/** Without times; and without what depends on whether the server forks, and when a client leaves. */
const LINES = "sed 's/^[^ ]* [^ ]* //' log | grep -v 'Fork\\|Disconnect'";

describe("lines of log are the same", () => {
  test.each<[string, string]>([
    ["memory", "memory 1M"],
    ["a pattern", "pattern 1M"],
    ["a file", "file disk"],
    ["data with holes", "data data='@32768 1' size=1M"],
    ["a plugin that can do little", `${debianPlugin("sh")} ./sh`],
    ["errors behind", "--filter=error memory 1M error-pread-rate=100% error-extents-rate=100%"],
  ])("in front of %s", async (_name, words) => {
    const script = `truncate -s 1M disk; server -U - --filter=log ${words} logfile=log --run '
${EVERYTHING.replaceAll("'", `'\\''`)}' 2>/dev/null; ${LINES}`;
    const { stdout } = await expectSameOutput(script, { sh: SHELL_DISK });
    expect(stdout).toContain("Read id=");
  });

  test("for a script, with its variables", async () => {
    const { stdout } = await expectSameOutput(
      `server -U - --filter=log memory 1M logscript='
echo "$act $type c=$connection i=$id $offset $count $fua $trim $return $error \${extents[*]}" >> log' --run '
${EVERYTHING.replaceAll("'", `'\\''`)}'; grep -v 'Fork\\|Disconnect' log | sort`,
    );
    expect(stdout).toMatch(/^Read ENTER c=\d i=3 0x18 0x3e8/m);
  });
});

test("log's ready line comes after the plugin's", async () => {
  const noted = SHELL_DISK.replace("open)", 'get_ready) echo "plugin ready" >> acts ;;\n  open)');
  const { stdout } = await expectSameOutput(
    `server -U - --filter=log ${debianPlugin("sh")} ./sh logscript='echo $act >> acts' --run true
    grep -i ready acts`,
    { sh: noted },
  );
  expect(stdout).toBe("plugin ready\nReady\n");
});

/** In the file of stats: without times and rates; and the sum of other sizes, which nbdkit has not got. */
const STATS =
  "sed -E 's/[0-9.]+ s, /S s, /; s@([0-9.]+ (bytes|[KMG]iB)|.n/a.)/s@R/s@g; /other sizes/s/reqs.*//' st";

describe("stats are the same", () => {
  test.each<[string, string]>([
    ["memory", "memory 1M statsfile=st"],
    ["memory, without sizes", "memory 1M statsfile=st statsthreshold=0"],
    ["memory, with all sizes", "memory 1M statsfile=st statsthreshold=100"],
    ["memory, with the most frequent size", "memory 1M statsfile=st statsthreshold=20"],
    ["a file that has been there", "memory 1M statsfile=st statsappend=true"],
    ["a plugin that can do little", `${debianPlugin("sh")} ./sh statsfile=st`],
    ["errors behind", "--filter=error memory 1M error-pwrite-rate=100% statsfile=st"],
  ])("in front of %s", async (_name, words) => {
    const client = `/usr/bin/python3 -m nbd --base-allocation -c '
import os
h.connect_uri(os.environ["uri"])
def tried(what):
  try: what()
  except nbd.Error: pass
# No two sizes of one kind as often as each other: nbdkit forgets one of them.
for i in range(20): h.pread(4096, i * 4096)
for i in range(5): h.pread(1000, 24 + i)
for i in range(2): h.pread(70000, 65536 * (i + 1))
h.pread(1, 0)
for i in range(9): tried(lambda: h.pwrite(b"x" * 512, i * 512))
tried(lambda: h.pwrite(b"x" * 65536, 0, nbd.CMD_FLAG_FUA))
for i in range(4): tried(lambda: h.zero(4096, 65536))
for i in range(2): tried(lambda: h.zero(100, 1))
if h.can_trim(): h.trim(4096, 8192)
for i in range(2): h.flush()
if h.can_cache(): h.cache(4096, 0)
h.block_status(1 << 20, 0, lambda *all: None)
h.shutdown()'`;
    const { stdout } = await expectSameOutput(
      `echo before >st; export client; client=$(cat client); server -U - --filter=stats ${words} --run 'export uri; sh -c "$client"' 2>/dev/null; ${STATS}`,
      { sh: SHELL_DISK, client },
    );
    expect(stdout).toMatch(/^total: \d+ ops, S s, /m);
    expect(stdout).toMatch(/^read: 2[89] ops, /m);
  });
});

// How long it takes at most depends on the machine; native/filters_test.cpp and native/rate_test.cpp have both on a clock.
test.each<[parameters: string, tenths: number]>([
  ["rate=1M burstiness=0.5", 15],
  ["connection-rate=1M burstiness=0.5", 15],
  ["rate=1 burstiness=0.5 rate-file=rate", 20],
  ["connection-rate=1 burstiness=0.5 connection-rate-file=rate", 20],
])("%s slows a client down", async (parameters, tenths) => {
  const writes = [0, 32, 64, 96, 128, 160, 192, 224].map((kib) => `-c "write ${kib}k 32k"`);
  const { stdout } = await expectSameOutput(
    `now() { date +%s%N; }
    begun=$(now)
    server -U - --filter=rate memory 1M ${parameters} --run '
      qemu-io -f raw ${writes.join(" ")} "$uri" >/dev/null' || exit 1
    [ $(( ($(now) - begun) / 100000000 )) -ge ${tenths} ] && echo slow || echo fast`,
    { rate: "1M\nand this\n" },
  );
  expect(stdout).toBe("slow\n");
});
