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
])("both refuse %s", async (words) => {
  const { status } = await expectSameOutput(`server -U - ${words} --run true`);
  expect(status).toBe(1);
});
