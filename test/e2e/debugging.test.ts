// docs/c-plugins.md on debuggers and sanitizers: each command is run as it is written, and
// finds what is wrong with a plugin that has that fault.

import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { type Finished, run } from "../support/command.js";
import { blocksOf } from "../support/documents.js";
import { sanitizer, temporaryDirectory } from "../support/server.js";

const main = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));

/** A debugger reads all symbols of Node. */
const DEADLINE_MS = 120_000;

/** A disk of 1 MiB, with a fault in the named callback. */
const plugin = (faults: Readonly<Record<string, string>>): string => `
#define NBDKIT_API_VERSION 2
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <nbdkit-plugin.h>
#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL
#define SIZE (1 << 20)
static char *disk;
static long calls;
static int mine_get_ready (void) { disk = calloc (1, SIZE); return 0; }
static void *mine_open (int readonly) { return malloc (16 + 0 * readonly); }
static void mine_close (void *handle) { (void) handle; ${faults.close ?? "free (handle);"} }
static int64_t mine_get_size (void *handle) { (void) handle; return SIZE; }
static int mine_can_multi_conn (void *handle) { (void) handle; return 1; }
static int mine_pread (void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
  (void) handle, (void) flags;
  ${faults.pread ?? ""}
  memcpy (buf, disk + offset, count);
  return 0;
}
static struct nbdkit_plugin plugin = {
  .name = "mine", .get_ready = mine_get_ready, .open = mine_open, .close = mine_close,
  .get_size = mine_get_size, .can_multi_conn = mine_can_multi_conn, .pread = mine_pread,
};
NBDKIT_REGISTER_PLUGIN (plugin)
`;

/** Runs a block of the document, which begins like this under that heading, where mine.c is this. */
async function follow(heading: string, source: string): Promise<Finished> {
  const block = blocksOf("docs/c-plugins.md").find(({ text }) => text.includes(heading));
  const directory = temporaryDirectory();
  mkdirSync(join(directory, "bin"));
  symlinkSync(main, join(directory, "bin", "asyncnbd")); // as npm does
  writeFileSync(join(directory, "mine.c"), source);
  const script = (block?.text ?? "exit 1").replace(/^\$ /gm, "");
  const env = { ...process.env, PATH: `${directory}/bin:${process.env.PATH}` };
  const deadlineMs = DEADLINE_MS;
  return run(["bash", "--norc", "-ec", script], { cwd: directory, env, deadlineMs });
}

describe.skipIf(sanitizer !== undefined)("a plugin", () => {
  test("stops at a breakpoint of gdb, and goes on", { timeout: DEADLINE_MS }, async () => {
    const { status, stdout } = await follow("$ gdb ", plugin({}));
    expect(stdout).toMatch(/hit Breakpoint 1, mine_pread \(.*offset=0/);
    expect(stdout).toMatch(/^#0 .*mine_pread .* at mine\.c:\d+$/m);
    expect(stdout).toContain("$1 = 0\n");
    expect(stdout).toMatch(/exited normally|exited with code/);
    expect(status).toBe(0);
  });

  const overflow = "char *copy = malloc (count); memset (copy, 1, count + 1); free (copy);";

  test("has its heap overflow found by AddressSanitizer, with its line", async () => {
    const { status, stderr } = await follow("-fsanitize=address", plugin({ pread: overflow }));
    expect(stderr).toContain("heap-buffer-overflow");
    expect(stderr).toMatch(/#1 .* mine_pread .*mine\.c:\d+$/m);
    expect(status).not.toBe(0);
  });

  test("without a fault is left alone by AddressSanitizer", async () => {
    const { status, stderr } = await follow("-fsanitize=address", plugin({}));
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  });

  test("has its undefined behaviour found by UndefinedBehaviorSanitizer, and nothing else", async () => {
    const far = "int shift = (int) (count % 7) + 31; calls += 1 << shift;";
    const found = await follow("-fsanitize=undefined", plugin({ pread: far }));
    expect(found.stderr).toMatch(/^mine\.c:\d+:\d+: runtime error: shift exponent/m);
    expect(found.status).not.toBe(0);
    const clean = await follow("-fsanitize=undefined", plugin({}));
    expect(clean).toMatchObject({ status: 0, stderr: "" });
  });

  test("has its data race found by ThreadSanitizer, and nothing else", {
    timeout: DEADLINE_MS,
  }, async () => {
    const found = await follow("-fsanitize=thread", plugin({ pread: "usleep (100); calls++;" }));
    expect(found.stderr).toMatch(/SUMMARY: ThreadSanitizer: data race .*mine\.c:\d+ in mine_pread/);
    expect(found.status).toBe(66);
    const clean = await follow("-fsanitize=thread", plugin({}));
    expect(clean.stderr).not.toMatch(/SUMMARY: .*mine\.c/);
  });

  test("has uninitialized reads and leaks found by valgrind", {
    timeout: DEADLINE_MS,
  }, async () => {
    const early = "int *fresh = malloc (sizeof *fresh); if (*fresh == 7) calls++; free (fresh);";
    const { stderr } = await follow("$ valgrind ", plugin({ pread: early, close: "" }));
    expect(stderr).toMatch(/uninitialised value.*\n.* mine_pread \(mine\.c:\d+\)/);
    expect(stderr).toMatch(/ mine_open \(mine\.c:\d+\)/);
  });
});
