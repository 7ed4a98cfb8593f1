// nbdkit's own plugins, which make disks of folders, files, programs and words: the same bytes, the
// same words of the programs they start, and the same exit status under nbdkit and asyncnbd.

import { describe, test } from "vitest";
import { MIB, patternBytes } from "../support/fixtures.js";
import { expectSame, expectSameOutput, type Files } from "./both.js";

const FILES: Files = {
  "dir/a.txt": "hello\n",
  "dir/sub/b.txt": "world\n",
  "disk.img": patternBytes(MIB),
  "more.img": patternBytes(3 * MIB, 2),
  "disk.sh": `case "$1" in
      config) echo "config $2=$3" >&2 ;;
      get_size) echo 1M ;;
      pread) head -c "$3" /dev/zero ;;
      pwrite) cat >/dev/null; echo "ENOSPC no space at $4" >&2; exit 1 ;;
      trim) echo "EPERM never" >&2; exit 1 ;;
      zero) echo "strange words" >&2; exit 1 ;;
      flush) exit 7 ;;
      can_write|can_trim|can_zero|can_flush) exit 0 ;;
      *) exit 2 ;;
    esac`,
  "disk.c": `#include <stdio.h>
    #include <stdlib.h>
    #include <string.h>
    #define NBDKIT_API_VERSION 2
    #include <nbdkit-plugin.h>
    #define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL
    static void *c_open(int readonly) { return NBDKIT_HANDLE_NOT_NEEDED; }
    static int64_t c_size(void *handle) { return SIZE; }
    static int c_read(void *handle, void *buffer, uint32_t count, uint64_t offset, uint32_t flags) {
      memset(buffer, 'c', count);
      return 0;
    }
    static struct nbdkit_plugin plugin = {
      .name = "mine", .open = c_open, .get_size = c_size, .pread = c_read };
    NBDKIT_REGISTER_PLUGIN(plugin)`,
  "broken.c": "#error this is no plugin\n",
};

const SIZE = 'nbdinfo --size "$uri"';
const SUM = `${SIZE}; nbdcopy "$uri" - | cksum`;

/** Words with quotes in them are for the shell to read. */
const served = (words: string, command = SUM): string =>
  `{ server -U - ${words} --run '${command.replaceAll("'", "'\\''")}'; echo "status $?"; }`;

const asks = (python: string): string => `/usr/bin/python3 -m nbd -u "$uri" -c '${python}'`;

/** Without asking for extents, at which nbdkit 1.32's split crashes. */
const HASH = `import zlib
sum = 0
for at in range(0, h.get_size(), 65536): sum = zlib.crc32(h.pread(65536, at), sum)
print(sum)`;

const READ_ZEROES = `pread='head -c "$3" /dev/zero'`;

const refusing = (callback: string): string =>
  served(
    `eval ${callback}='echo "EPERM not today" >&2; exit 1' get_size='echo 1M' ${READ_ZEROES}`,
    SIZE,
  );

/** What both say word by word, the children's words among it. */
const SAME: readonly string[] = [
  served("sh disk.sh key=value", SIZE),
  served("sh disk.sh", asks('h.pwrite(b"x" * 512, 0)')),
  served("sh disk.sh", asks("h.trim(512, 0)")),
  served("sh disk.sh", asks("h.zero(512, 0)")),
  served("sh disk.sh", asks("h.flush()")),
  `${served("sh - key=value", SIZE)} < disk.sh`,
  "server --dump-plugin sh disk.sh",
  served(`eval get_size='test -d "$tmpdir" && echo 1M' ${READ_ZEROES}`),
  served("eval get_size='echo 1M' pread='echo \"EIO no luck\" >&2; exit 1'"),
  served("eval get_size='echo 1M' pread='echo short'"),
  served("eval get_size='echo 1M' pread='kill -9 $$'"),
  ...["load", "get_ready", "config_complete", "open"].map(refusing),
  served(
    `eval get_size='echo 1M' ${READ_ZEROES} ${[
      ...["load", "unload", "get_ready", "after_fork", "cleanup", "preconnect"],
      ...["config", "config_complete"],
    ]
      .map((callback) => `${callback}='echo "${callback} $2" >&2'`)
      .join(" ")} key=value`,
    SIZE,
  ),
  served(
    `eval block_size='echo 512 512 4096' get_size='echo 1M' ${READ_ZEROES}`,
    asks("print(len(h.pread(1000, 1)), len(h.pread(65536, 0)))"),
  ),
  served("--log=null eval get_size='echo 1M' pread='echo \"EIO no luck\" >&2; exit 1'", SIZE),
  served("data '1 2 @100 <disk.img \"abc\"*10'"),
  served("data '<( echo to-stderr >&2; echo to-stdout )'", 'nbdcopy "$uri" -'),
  served("data '<( while :; do echo -n .; done )[:400]'", SIZE),
  served("data '<( grep -E \"^Sig(Blk|Ign|Cgt)\" /proc/self/status )'", 'nbdcopy "$uri" -'),
  served("data '<( readlink /proc/self/fd/0 | tr -d 0-9 )'", 'nbdcopy "$uri" -'),
  served("data base64=aGVsbG8= size=1M", `${SUM}; nbdinfo --map "$uri"`),
  served("data raw=hello allocator=malloc"),
  served("data '( 1 2'"),
  served("data '<nosuchfile'"),
  served("split disk.img more.img", asks(HASH)),
  served(
    "partitioning disk.img more.img mbr-id=0x82",
    `${SIZE}; nbdcopy "$uri" x; sfdisk -d x | tail -2`,
  ),
  served("partitioning disk.img partition-type=gpt type-guid=home disk.img", SIZE),
  served("floppy dir label=FLOP", `${SIZE}; nbdcopy "$uri" - | grep -aoE "FLOP|hello|world"`),
  served("floppy dir size=1K"),
  served("linuxdisk dir type=ext2 size=+1M label=LIN", SIZE),
  served("linuxdisk nosuch"),
  served("iso dir", `${SIZE}; nbdcopy "$uri" - | strings | grep -E "hello|world"`),
  served(
    "iso dir params='-V \"A LABEL\"'",
    'nbdcopy "$uri" - | strings | grep -o "A LABEL" | head -1',
  ),
  served("iso dir prog=nosuch"),
  served("tmpdisk 1M command='echo hi >&2; echo out; truncate -s $size $disk'"),
  served("tmpdisk 1M command='truncate -s $more $disk; echo $word' more=2M word=x", SIZE),
  served("tmpdisk 1M command='echo hi >&2; exit 3'", SIZE),
  served("tmpdisk 1M command='kill -9 $$'", SIZE),
  served("tmpdisk 1M type=ext2 label=TMP", 'nbdcopy "$uri" x; e2label x'),
  served(
    "ondemand dir=dir size=1M command='echo $disk >&2; truncate -s $size $disk'",
    `${SIZE}; ls dir`,
  ),
  served("cc disk.c CFLAGS='-DSIZE=65536'"),
  `${served("cc - CFLAGS='-DSIZE=65536'")} < disk.c`,
  served("cdi name:tag"),
  served("random 1M seed=3"),
  served("sparse-random 10M seed=1 percent=20"),
  served("pattern 1M"),
  served("full 1M", asks('h.pwrite(b"x" * 512, 0)')),
  served("-e abc info mode=exportname"),
  served("-e YWJj info mode=base64exportname"),
  served("info mode=nosuch"),
  served("example1"),
  served("example2 file=disk.img"),
  served("example2"),
  served("example3 size=1M"),
  served("zero"),
  served("null 1M"),
];

/** Here each server, a compiler, or a client who is cut off has words of its own. */
const SAME_OUTPUT: readonly string[] = [
  refusing("preconnect"),
  served("eval get_size='echo 1M; exit 1' pread=true", SIZE),
  served("partitioning disk.img mbr-id=zebra"),
  served("iso nosuch"),
  served("torrent nosuch"),
  served("tmpdisk 1M command=true", SIZE),
  served("cc disk.c", SIZE),
  served("cc broken.c", SIZE),
  served("cc disk.c CC=nosuch", SIZE),
  served("floppy nosuch"),
  served("tmpdisk 4M label=DISK", `${SIZE}; nbdcopy "$uri" x; e2label x`),
  served("eval bare"),
  served("eval block_size='echo 3 4 5' get_size='echo 1M'", SIZE),
];

describe("nbdkit and asyncnbd do the same for", () => {
  test.concurrent.each(SAME)("%s", async (line) => {
    await expectSame(line, FILES);
  });

  test.concurrent.each(SAME_OUTPUT)("%s, but for words", async (line) => {
    await expectSameOutput(line, FILES);
  });
});
