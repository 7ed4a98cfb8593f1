// nbdkit's filters, unmodified or native, in both servers: for each of them, with as many of its
// parameters as can be, clients see the same facts, extents, data and errors.

import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { debianPlugin, debianFilter as path } from "../support/server.js";
import { expectSameOutput, type Files } from "./both.js";

const memory = debianPlugin("memory");
const file = debianPlugin("file");

/** Where ours would be found by the short name. */

/** What a client sees of a disk before and after it has tried to write to it. */
const LOOK = `
nbdinfo --no-content "$uri" 2>&1 | grep -v "uri:\\|block_size_\\|server reported"
nbdinfo --map "$uri" 2>&1 | grep -v "server reported"
io() { qemu-io -f raw "$@" "$uri" 2>&1 | grep -v 'ops;\\|/sec\\|server reported' | sed 's/^qemu-io: .*: //'; }
io -c 'read 0 64k' -c 'write -P 3 5000 100000' -c 'read -P 3 5000 100000' -c flush
io -c 'write -f -P 4 200k 4k' -c 'write -z 0 64k' -c 'write -z -u 128k 64k' -c 'write -z -n 64k 4k'
io -c 'discard 256k 100k' -c 'read -P 0 256k 100k' -c 'write -P 5 1000k 24k'
nbdinfo --map "$uri" 2>&1 | grep -v "server reported"
nbdcopy "$uri" - 2>/dev/null | md5sum
`;

const looking = (words: string, look = LOOK): string => `
server -U - ${words} --run '
${look.replaceAll("'", `'\\''`)}'`;

// ---- images, made once, as each server gets a copy of them

const images = mkdtempSync(join(tmpdir(), "asyncnbd-test-"));
afterAll(() => rmSync(images, { recursive: true, force: true }));

function image(name: string, make: (path: string) => void): Files {
  const path = join(images, name);
  make(path);
  return { [name]: { copy: path } };
}

const sh = (command: string): void =>
  void execFileSync("sh", ["-c", command], { cwd: images, stdio: ["ignore", "ignore", "inherit"] });

const raw = image("raw", (path) => {
  const numbers = Array.from({ length: 50_000 }, (_, i) => `${i}\n`).join("");
  writeFileSync(path, Buffer.concat([Buffer.alloc(2 ** 18), Buffer.from(numbers)]));
  truncateSync(path, 2 ** 20);
});
const gz = image("raw.gz", () => sh("gzip -k raw"));
const xz = image("raw.xz", () => sh("xz -k --block-size=64KiB raw"));
const tar = image("disk.tar", () => sh("echo first > first; tar cf disk.tar first raw"));
// qemu-img measures the processor time of a few milliseconds, and gives up where the clock of that is
// coarse and says 0.
const createLuks =
  "qemu-img create -q -f luks --object secret,id=s,data=abc -o key-secret=s,iter-time=10 disk.luks 1M";
const luks = image("disk.luks", () =>
  sh(`for i in $(seq 50); do ${createLuks} && exit; done; exit 1`),
);
const partitioned = image("disk.mbr", (path) => {
  writeFileSync(path, "");
  truncateSync(path, 4 * 2 ** 20);
  sh("printf 'start=2048,size=2048\\nstart=4096,size=2048\\n' | /sbin/sfdisk -q disk.mbr");
});
const ext2 = image("disk.ext2", (path) => {
  writeFileSync(path, "");
  truncateSync(path, 8 * 2 ** 20);
  sh("/sbin/mke2fs -q -F -d . disk.ext2 2>/dev/null || /sbin/mke2fs -q -F disk.ext2");
});

const texts: Files = {
  exts: "0 64K\n128K 64K zero\n256K 700K hole,zero\n",
  map: "0x0 +\n0x00000000 0x00020000 +\n0x00020000 0x00020000 -\n0x00040000 0x000c0000 +\n",
};

// ---- the filters

describe("clients see the same behind", () => {
  test.each<[words: string, files?: Files]>([
    [`--filter=nofilter ${memory} 1M`],
    [`--filter=${path("nofilter")} ${memory} 1M`],
    [`--filter=blocksize ${memory} 1M minblock=4K`],
    [`--filter=blocksize ${memory} 1M minblock=512 maxdata=64K maxlen=128K`],
    [`--filter=blocksize-policy ${memory} 1M blocksize-minimum=512 blocksize-error-policy=error`],
    [`--filter=blocksize-policy ${memory} 1M blocksize-preferred=8K blocksize-maximum=64K`],
    [`--filter=${path("cache")} ${memory} 1M`],
    [`--filter=${path("cache")} ${memory} 1M cache=writethrough`],
    [`--filter=${path("cache")} ${memory} 1M cache=unsafe cache-on-read=true`],
    [`--filter=${path("cache")} ${memory} 1M cache-min-block-size=4K cache-max-size=8M`],
    [`--filter=cacheextents ${memory} 1M`],
    [`--filter=checkwrite ${debianPlugin("data")} data="1 2 3" size=1M`],
    [`--filter=${path("cow")} ${memory} 1M`],
    [`--filter=${path("cow")} ${memory} 1M cow-block-size=4K cow-on-cache=true cow-on-read=true`],
    [`--filter=ddrescue ${memory} 1M ddrescue-mapfile=map`, texts],
    [`--filter=${path("delay")} ${memory} 1M rdelay=5ms wdelay=5ms delay-fast-zero=false`],
    [`--filter=${path("error")} ${memory} 1M error=ENOSPC error-pwrite-rate=100%`],
    [`--filter=${path("error")} ${memory} 1M error-rate=100%`],
    [`--filter=${path("error")} ${memory} 1M error-extents=EINVAL error-extents-rate=1`],
    [`--filter=exitwhen ${memory} 1M exit-when-file-created=/nonexistent`],
    [`--filter=exportname ${memory} 1M exportname=a exportname=b default-export=a`],
    [`--filter=exportname ${memory} 1M exportname=a exportname-strict=true default-export=b`],
    [`--filter=exportname ${memory} 1M exportname-list=explicit exportname=a exportname=b`],
    [`--filter=exportname ${memory} 1M exportdesc=fixed:words`],
    [`--filter=ext2 ${file} disk.ext2 ext2file=/raw`, ext2],
    [`--filter=ext2 ${file} disk.ext2 ext2file=/none`, ext2],
    [`--filter=extentlist ${memory} 1M extentlist=exts`, texts],
    [`--filter=fua ${memory} 1M fuamode=emulate`],
    [`--filter=fua ${memory} 1M fuamode=native`],
    [`--filter=fua ${memory} 1M fuamode=force`],
    [`--filter=fua ${memory} 1M fuamode=pass`],
    [`--filter=gzip ${file} raw.gz`, gz],
    [`--filter=gzip ${file} raw`, raw],
    [`--filter=ip ${memory} 1M allow=all`],
    [`--filter=limit ${memory} 1M limit=3`],
    [`--filter=${path("log")} ${memory} 1M logfile=log`],
    [`--filter=luks ${file} disk.luks passphrase=abc`, luks],
    [`--filter=multi-conn ${memory} 1M`],
    [`--filter=multi-conn ${memory} 1M multi-conn-mode=emulate`],
    [`--filter=multi-conn ${memory} 1M multi-conn-mode=disable`],
    [`--filter=multi-conn ${memory} 1M multi-conn-mode=unsafe multi-conn-track-dirty=fast`],
    [`--filter=nocache ${memory} 1M`],
    [`--filter=nocache ${memory} 1M cachemode=emulate`],
    [`--filter=nocache ${memory} 1M cachemode=nop`],
    [`--filter=noextents ${memory} 1M`],
    [`--filter=noparallel ${memory} 1M`],
    [`--filter=noparallel ${memory} 1M serialize=requests`],
    [`--filter=noparallel ${memory} 1M serialize=all-requests`],
    [`--filter=noparallel ${memory} 1M serialize=connections`],
    [`--filter=nozero ${memory} 1M`],
    [`--filter=nozero ${memory} 1M zeromode=emulate`],
    [`--filter=nozero ${memory} 1M zeromode=notrim`],
    [`--filter=nozero ${memory} 1M zeromode=plugin`],
    [`--filter=nozero ${memory} 1M zeromode=emulate fastzeromode=slow`],
    [`--filter=nozero ${memory} 1M zeromode=emulate fastzeromode=ignore`],
    [`--filter=offset ${memory} 2M offset=512K range=1M`],
    [`--filter=offset ${memory} 1M offset=4K`],
    [`--filter=offset ${memory} 7E offset=8070450532247927809 range=100000`],
    [`--filter=offset ${memory} 2M offset=4K range=4K offset=512K range=1M`],
    [`--filter=nozero ${memory} 1M zeromode=plugin zeromode=emulate`],
    [`--filter=partition ${file} disk.mbr partition=2`, partitioned],
    [`--filter=pause ${memory} 1M pause-control=ctl`],
    [`--filter=protect ${memory} 1M protect=~0-100000`],
    [`--filter=${path("rate")} ${memory} 1M rate=100M`],
    [`--filter=${path("rate")} ${memory} 1M connection-rate=100M burstiness=1`],
    [`--filter=readahead ${memory} 1M`],
    [`--filter=readahead --filter=${path("cache")} ${memory} 1M cache-on-read=true`],
    [`--filter=${path("retry")} ${memory} 1M`],
    [`--filter=${path("retry")} ${memory} 1M retries=1 retry-delay=1 retry-readonly=true`],
    [`--filter=retry-request ${memory} 1M retry-request-retries=1 retry-request-delay=1`],
    [`--filter=retry-request ${memory} 1M retry-request-open=false`],
    [`--filter=scan --filter=${path("cache")} ${memory} 1M cache-on-read=true`],
    [`--filter=scan ${memory} 1M scan-ahead=false scan-forever=true scan-size=64K`],
    [`--filter=${path("stats")} ${memory} 1M statsfile=st`],
    ...[16, 32, 64].map((bits): [string] => [`--filter=swab ${memory} 1M swab-bits=${bits}`]),
    [`--filter=tar ${file} disk.tar tar-entry=raw`, tar],
    [`--filter=tar ${file} disk.tar tar-entry=none`, tar],
    [`--filter=tls-fallback ${memory} 1M`],
    [`--filter=tls-fallback ${memory} 1M tlsreadme=words`],
    [`--filter=truncate ${memory} 1M truncate=2M`],
    [`--filter=truncate ${memory} 1M truncate=512K`],
    [`--filter=truncate ${memory} 1000K round-up=64K`],
    [`--filter=truncate ${memory} 1000K round-down=64K`],
    [`--filter=xz ${file} raw.xz`, xz],
    [`--filter=xz ${file} raw.xz xz-max-block=64K xz-max-depth=2`, xz],
    [`--filter=xz ${file} raw`, raw],
    // Several of them, of one kind too: as in nbdkit, both have the same variables.
    [`--filter=swab --filter=swab ${memory} 1M`],
    [`--filter=offset --filter=offset ${memory} 2M offset=4K`],
    [`--filter=truncate --filter=offset ${memory} 1M truncate=2M offset=64K`],
    [`--filter=offset --filter=truncate ${memory} 1M truncate=2M offset=64K`],
    [
      `--filter=blocksize --filter=nozero --filter=fua --filter=nofilter --filter=${path("cow")} ` +
        `${memory} 1M minblock=1K zeromode=emulate fuamode=emulate`,
    ],
    [`--filter=xz --filter=tar ${file} raw.xz tar-entry=raw`, xz],
    [`--filter=partition --filter=gzip ${file} raw.gz partition=1`, gz],
    // And of other servers' plugins of all thread models.
    [`--filter=blocksize ${debianPlugin("sh")} ./sh minblock=4K`, shellDisk("parallel")],
    [`--filter=nozero ${debianPlugin("sh")} ./sh`, shellDisk("serialize_all_requests")],
    [`--filter=${path("cache")} ${debianPlugin("sh")} ./sh`, shellDisk("serialize_requests")],
    [`--filter=noextents ${debianPlugin("sh")} ./sh`, shellDisk("serialize_connections")],
  ])("%s", async (words, files = {}) => {
    const { stdout } = await expectSameOutput(looking(words), files);
    expect(stdout).toMatch(/^\w+ {2}-$/m); // what nbdcopy has copied, if only nothing
  });
});

function shellDisk(model: string): Files {
  const script = `#!/bin/bash
case $1 in
  thread_model) echo ${model} ;;
  open) truncate -s 1M disk ;;
  get_size) echo 1M ;;
  can_write | can_flush | can_trim | can_zero) ;;
  can_fua) echo emulate ;;
  can_extents) ;;
  flush) ;;
  pread) dd if=disk bs=64K iflag=skip_bytes,count_bytes skip=$4 count=$3 status=none ;;
  pwrite) dd of=disk bs=64K oflag=seek_bytes seek=$4 conv=notrunc status=none ;;
  zero | trim) head -c $3 /dev/zero | dd of=disk bs=64K oflag=seek_bytes seek=$4 conv=notrunc status=none ;;
  extents) echo "$4 $3 $([ $4 -lt 512000 ] && echo 0 || echo hole,zero)" ;;
  *) exit 2 ;;
esac
`;
  return { sh: script };
}

test.each([
  `--filter=offset memory 1M offset=x`,
  `--filter=partition memory 1M`,
  `--filter=partition memory 1M partition=0`,
  `--filter=blocksize memory 1M minblock=3`,
  `--filter=blocksize-policy memory 1M blocksize-minimum=3`,
  `--filter=nozero memory 1M zeromode=maybe`,
  `--filter=nozero memory 1M nozero=maybe`,
  `--filter=fua memory 1M fuamode=maybe`,
  `--filter=protect memory 1M protect=9-1`,
  `--filter=swab memory 1M swab-bits=9`,
  `--filter=truncate memory 1M round-up=0`,
  `--filter=extentlist memory 1M extentlist=/nonexistent`,
  `--filter=noparallel memory 1M serialize=maybe`,
  `--filter=nosuchfilter memory 1M`,
  `--filter=/nonexistent.so memory 1M`,
  `--filter=${debianPlugin("memory")} memory 1M`,
  `--filter=luks memory 1M`,
  `--filter=tar memory 1M`,
])("is refused by both: %s", async (words) => {
  const { status } = await expectSameOutput(`server -U - ${words} --run true`);
  expect(status).toBe(1);
});

// ---- what they do beside requests

test.each([
  "--filter=noparallel memory",
  "--filter=noparallel memory serialize=connections",
  "--filter=noextents memory",
])("the thread model that --dump-plugin shows: %s", async (words) => {
  const { stdout } = await expectSameOutput(`server --dump-plugin ${words} | grep thread_model`);
  expect(stdout).toContain("max_thread_model=parallel\n");
});

// But for whether the server forks, and when a client that leaves is noticed.
test("the log of calls is the same", async () => {
  const words = `--filter=${path("log")} ${memory} 1M logfile=log`;
  const look = `
io() { qemu-io -f raw "$@" "$uri" >/dev/null; }
io -c 'read 0 64k' -c 'write -P 3 5000 100000' -c flush -c 'write -z -u 128k 64k'
io -c 'discard 256k 100k' -c 'write -f -P 5 1000k 24k'
nbdinfo --map "$uri" >/dev/null`;
  const { stdout } = await expectSameOutput(
    `${looking(words, look)}\nsed 's/^[^ ]* [^ ]* //' log | grep -v 'Fork\\|Disconnect'`,
  );
  expect(stdout).toContain("Write id=");
});

test("a client that a filter refuses gets nothing", async () => {
  const words = `--filter=ip ${memory} 1M deny=all`;
  const { stdout } = await expectSameOutput(
    looking(words, 'nbdinfo --size "$uri" 2>/dev/null; echo $?'),
  );
  expect(stdout).toBe("1\n");
});

test("a reopened plugin continues after its failure", async () => {
  const script = `#!/bin/bash
case $1 in
  get_size) echo 1M ;;
  pread) n=$(cat fails 2>/dev/null); echo x$n > fails
    [ "$n" = xx ] || { echo EIO broken >&2; exit 1; }
    head -c $3 /dev/zero | tr '\\0' a ;;
  open) echo open >> opens ;;
  *) exit 2 ;;
esac
`;
  const words = `--filter=${path("retry")} ${debianPlugin("sh")} ./sh retry-delay=1 retry-exponential=no`;
  const { stdout } = await expectSameOutput(
    `${looking(words, 'nbdcopy "$uri" - | head -c 3')}\ncat opens`,
    { sh: script },
  );
  expect(stdout).toBe(`aaa${"open\n".repeat(3)}`);
});

test("exports are listed through filters", async () => {
  const look = `nbdinfo --list --no-content "$uri" | grep "export=\\|description"`;
  const words = `--filter=exportname ${file} dir=. exportname-list=explicit exportname=one`;
  await expectSameOutput(looking(words, look), { one: "1", two: "2" });
  await expectSameOutput(looking(`--filter=exportname ${file} dir=. exportname-list=keep`, look), {
    one: "1",
  });
  await expectSameOutput(
    looking(
      `--filter=exportname ${file} dir=. exportname-list=defaultonly default-export=two`,
      look,
    ),
    { one: "1", two: "2" },
  );
});

test("the server ends with its last client, and when a file appears", async () => {
  const client = `qemu-io -r -f raw -c "read 0 1k" nbd+unix:///?socket=s >/dev/null; wait; echo $?`;
  const serve = (words: string): string => `server -f -U s ${words} &
until [ -S s ]; do sleep 0.05; done`;
  await expectSameOutput(`${serve(`--filter=exitlast ${memory} 1M`)}; ${client}`);
  await expectSameOutput(
    `${serve(`--filter=exitwhen ${memory} 1M exit-when-file-created=now exit-when-poll=1`)}
touch now; wait; echo $?`,
  );
});
