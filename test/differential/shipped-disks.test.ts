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
const serve = (words: string, command = SUM): string =>
  `{ server -U - ${words} --run '${command.replaceAll("'", "'\\''")}'; echo "status $?"; }`;

const asks = (python: string): string => `/usr/bin/python3 -m nbd -u "$uri" -c '${python}'`;

/** Without asking for extents, at which nbdkit 1.32's split crashes. */
const HASH = `import zlib
sum = 0
for at in range(0, h.get_size(), 65536): sum = zlib.crc32(h.pread(65536, at), sum)
print(sum)`;

const READ_ZEROES = `pread='head -c "$3" /dev/zero'`;

const refusing = (callback: string): string =>
  serve(
    `eval ${callback}='echo "EPERM not today" >&2; exit 1' get_size='echo 1M' ${READ_ZEROES}`,
    SIZE,
  );

/** What both say word by word, the children's words among it. */
const SAME: readonly string[] = [
  serve("sh disk.sh key=value", SIZE),
  serve("sh disk.sh", asks('h.pwrite(b"x" * 512, 0)')),
  serve("sh disk.sh", asks("h.trim(512, 0)")),
  serve("sh disk.sh", asks("h.zero(512, 0)")),
  serve("sh disk.sh", asks("h.flush()")),
  `${serve("sh - key=value", SIZE)} < disk.sh`,
  "server --dump-plugin sh disk.sh",
  serve(`eval get_size='test -d "$tmpdir" && echo 1M' ${READ_ZEROES}`),
  serve("eval get_size='echo 1M' pread='echo \"EIO no luck\" >&2; exit 1'"),
  serve("eval get_size='echo 1M' pread='echo short'"),
  serve("eval get_size='echo 1M' pread='kill -9 $$'"),
  ...["load", "get_ready", "config_complete", "open"].map(refusing),
  serve(
    `eval get_size='echo 1M' ${READ_ZEROES} ${[
      ...["load", "unload", "get_ready", "after_fork", "cleanup", "preconnect"],
      ...["config", "config_complete"],
    ]
      .map((callback) => `${callback}='echo "${callback} $2" >&2'`)
      .join(" ")} key=value`,
    SIZE,
  ),
  serve(
    `eval block_size='echo 512 512 4096' get_size='echo 1M' ${READ_ZEROES}`,
    asks("print(len(h.pread(1000, 1)), len(h.pread(65536, 0)))"),
  ),
  serve("--log=null eval get_size='echo 1M' pread='echo \"EIO no luck\" >&2; exit 1'", SIZE),
  serve("data '1 2 @100 <disk.img \"abc\"*10'"),
  serve("data '<( echo to-stderr >&2; echo to-stdout )'", 'nbdcopy "$uri" -'),
  serve("data '<( while :; do echo -n .; done )[:400]'", SIZE),
  serve("data '<( grep -E \"^Sig(Blk|Ign|Cgt)\" /proc/self/status )'", 'nbdcopy "$uri" -'),
  serve("data '<( readlink /proc/self/fd/0 | tr -d 0-9 )'", 'nbdcopy "$uri" -'),
  serve("data base64=aGVsbG8= size=1M", `${SUM}; nbdinfo --map "$uri"`),
  serve("data raw=hello allocator=malloc"),
  serve("data '( 1 2'"),
  serve("data '<nosuchfile'"),
  serve("split disk.img more.img", asks(HASH)),
  serve(
    "partitioning disk.img more.img mbr-id=0x82",
    `${SIZE}; nbdcopy "$uri" x; sfdisk -d x | tail -2`,
  ),
  serve("partitioning disk.img partition-type=gpt type-guid=home disk.img", SIZE),
  serve("floppy dir label=FLOP", `${SIZE}; nbdcopy "$uri" - | grep -aoE "FLOP|hello|world"`),
  serve("floppy dir size=1K"),
  serve("linuxdisk dir type=ext2 size=+1M label=LIN", SIZE),
  serve("linuxdisk nosuch"),
  serve("iso dir", `${SIZE}; nbdcopy "$uri" - | strings | grep -E "hello|world"`),
  serve(
    "iso dir params='-V \"A LABEL\"'",
    'nbdcopy "$uri" - | strings | grep -o "A LABEL" | head -1',
  ),
  serve("iso dir prog=nosuch"),
  serve("tmpdisk 1M command='echo hi >&2; echo out; truncate -s $size $disk'"),
  serve("tmpdisk 1M command='truncate -s $more $disk; echo $word' more=2M word=x", SIZE),
  serve("tmpdisk 1M command='echo hi >&2; exit 3'", SIZE),
  serve("tmpdisk 1M command='kill -9 $$'", SIZE),
  serve("tmpdisk 1M type=ext2 label=TMP", 'nbdcopy "$uri" x; e2label x'),
  serve(
    "ondemand dir=dir size=1M command='echo $disk >&2; truncate -s $size $disk'",
    `${SIZE}; ls dir`,
  ),
  serve("cc disk.c CFLAGS='-DSIZE=65536'"),
  `${serve("cc - CFLAGS='-DSIZE=65536'")} < disk.c`,
  serve("cdi name:tag"),
  serve("random 1M seed=3"),
  serve("sparse-random 10M seed=1 percent=20"),
  serve("pattern 1M"),
  serve("full 1M", asks('h.pwrite(b"x" * 512, 0)')),
  serve("-e abc info mode=exportname"),
  serve("-e YWJj info mode=base64exportname"),
  serve("info mode=nosuch"),
  serve("example1"),
  serve("example2 file=disk.img"),
  serve("example2"),
  serve("example3 size=1M"),
  serve("zero"),
  serve("null 1M"),
];

/** Here each server, a compiler, or a client who is cut off has words of its own. */
const SAME_OUTPUT: readonly string[] = [
  refusing("preconnect"),
  serve("eval get_size='echo 1M; exit 1' pread=true", SIZE),
  serve("partitioning disk.img mbr-id=zebra"),
  serve("iso nosuch"),
  serve("torrent nosuch"),
  serve("tmpdisk 1M command=true", SIZE),
  serve("cc disk.c", SIZE),
  serve("cc broken.c", SIZE),
  serve("cc disk.c CC=nosuch", SIZE),
  serve("floppy nosuch"),
  serve("tmpdisk 4M label=DISK", `${SIZE}; nbdcopy "$uri" x; e2label x`),
  serve("eval bare"),
  serve("eval block_size='echo 3 4 5' get_size='echo 1M'", SIZE),
];

describe("nbdkit and asyncnbd do the same for", () => {
  test.concurrent.each(SAME)("%s", async (line) => {
    await expectSame(line, FILES);
  });

  test.concurrent.each(SAME_OUTPUT)("%s, except for the wording", async (line) => {
    await expectSameOutput(line, FILES);
  });
});
