// nbdkit's filters in front of what nbdkit has not: plugins that answer later, or never, and plugins
// in TypeScript. What they have in common with nbdkit is compared in test/differential.

import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { CMD } from "../support/protocol.js";
import { RawClient } from "../support/raw-client.js";
import {
  clean,
  debianFilter,
  debianPlugin,
  LEAKS_AT_EXIT,
  runAsyncnbd,
  sanitizer,
  startServer,
  temporaryDirectory,
  testPlugin,
} from "../support/server.js";

const { READ, FLUSH } = CMD;

test("a filter's own thread that waits for an answer that never comes is released", async () => {
  // It reads on, region by region, until it meets the one that is never answered.
  const scan = [`--filter=${debianFilter("scan")}`, "--grace=1", "-U", "-"];
  const plugin = [testPlugin("asyncprobe"), "scan-size=65536"];
  const look = clean('qemu-io -r -f raw -c "sleep 500" "$uri"');
  const { status, stderr } = await runAsyncnbd([...scan, ...plugin, "--run", look], {
    env: LEAKS_AT_EXIT,
  });
  expect(stderr).toContain("cache offset=655360 count=65536: the plugin did not reply: giving up");
  // Its request may still be answered: the plugin is not unloaded, and the server has failed.
  expect(status).toBe(1);
});

/** A filter of these words in C. */
function compiled(name: string, words: string): string {
  const directory = temporaryDirectory();
  const source = join(directory, `${name}.c`);
  const filter = join(directory, `${name}.so`);
  writeFileSync(
    source,
    `#include <nbdkit-filter.h>
     ${words}
     NBDKIT_REGISTER_FILTER(filter)`,
  );
  const include = join(import.meta.dirname, "../../native/include");
  execFileSync("gcc", ["-shared", "-fPIC", `-I${include}`, source, "-o", filter]);
  return filter;
}

test("a filter can stop the server as it starts", async () => {
  const filter = compiled(
    "stop",
    `static int stop(nbdkit_backend *backend) { (void)backend; nbdkit_shutdown(); return 0; }
     static struct nbdkit_filter filter = { .name = "stop", .after_fork = stop };`,
  );
  const socket = join(temporaryDirectory(), "s");
  const args = [`--filter=${filter}`, "-f", "-U", socket, debianPlugin("memory")];
  expect(await runAsyncnbd([...args, "1M"])).toMatchObject({ status: 0, stderr: "" });
});

test("a filter that is twice in a chain has two states", async () => {
  const filter = compiled(
    "twice",
    `#include <stdio.h>
     static int start(nbdkit_backend *b) { fprintf(stderr, "start %p\\n", (void *)b); return 0; }
     static void end(nbdkit_backend *b) { fprintf(stderr, "end %p\\n", (void *)b); }
     static struct nbdkit_filter filter = { .name = "twice", .after_fork = start, .cleanup = end };`,
  );
  const args = [`--filter=${filter}`, `--filter=${filter}`, "-U", "-", debianPlugin("memory")];
  const { stderr } = await runAsyncnbd([...args, "1M", "--run", "true"]);
  const of = (what: string) =>
    stderr.split("\n").flatMap((line) => (line.startsWith(what) ? [line.split(" ")[1]] : []));
  expect(new Set(of("start")).size).toBe(2);
  expect(of("end")).toEqual(of("start").reverse());
});

test("a filter sees the same next pointer in all of its calls", async () => {
  const filter = compiled(
    "address",
    `#include <stdio.h>
     static nbdkit_backend *behind;
     static void same(const char *call, nbdkit_backend *b) {
       fprintf(stderr, "%s: %s\\n", call, b == behind ? "the same" : "another");
     }
     static int start(nbdkit_backend *b) { behind = b; return 0; }
     static void end(nbdkit_backend *b) { same("cleanup", b); }
     static int before(nbdkit_next_preconnect *next, nbdkit_backend *b, int readonly) {
       same("preconnect", b);
       return next(b, readonly);
     }
     static int list(nbdkit_next_list_exports *next, nbdkit_backend *b, int readonly, int tls,
                     struct nbdkit_exports *exports) {
       same("list_exports", b);
       return next(b, readonly, exports);
     }
     static const char *named(nbdkit_next_default_export *next, nbdkit_backend *b, int readonly,
                              int tls) {
       same("default_export", b);
       return next(b, readonly);
     }
     static void *enter(nbdkit_next_open *next, nbdkit_context *context, int readonly,
                        const char *name, int tls) {
       same("open", nbdkit_context_get_backend(context));
       nbdkit_next *opened = nbdkit_next_context_open(behind, readonly, name, 0);
       if (opened == NULL) return NULL;
       nbdkit_context_set_next(context, opened);
       return NBDKIT_HANDLE_NOT_NEEDED;
     }
     static struct nbdkit_filter filter = {
       .name = "address", .after_fork = start, .cleanup = end, .preconnect = before,
       .list_exports = list, .default_export = named, .open = enter,
     };`,
  );
  const args = [`--filter=${filter}`, "-U", "-", debianPlugin("memory"), "1M"];
  const command = clean('nbdinfo --list "$uri" && nbdcopy "$uri" null:');
  const { status, stderr } = await runAsyncnbd([...args, "--run", command]);
  expect(stderr).not.toContain("another");
  for (const call of ["preconnect", "list_exports", "default_export", "open", "cleanup"])
    expect(stderr).toContain(`${call}: the same`);
  expect(status).toBe(0);
});

/** Opens what is behind it for its first client, and closes it at the end. */
const SHARING_FILTER = `static nbdkit_next *shared;
     static void *enter(nbdkit_next_open *next, nbdkit_context *context, int readonly,
                        const char *name, int tls) {
       if (shared == NULL) {
         nbdkit_next *made =
             nbdkit_next_context_open(nbdkit_context_get_backend(context), readonly, name, 1);
         if (made == NULL) return NULL;
         if (made->prepare(made) == -1) {
           nbdkit_next_context_close(made);
           return NULL;
         }
         shared = made;
       }
       nbdkit_context_set_next(context, shared);
       return context;
     }
     static int finish(nbdkit_next *next, void *context) {
       nbdkit_context_set_next(context, NULL);
       return 0;
     }
     static void end(nbdkit_backend *behind) {
       if (shared == NULL) return;
       shared->finalize(shared);
       nbdkit_next_context_close(shared);
     }
     static struct nbdkit_filter filter = {
       .name = "share", .open = enter, .finalize = finish, .cleanup = end,
     };`;

test("a filter can open the plugin once for all clients", async () => {
  const filter = compiled("share", SHARING_FILTER);
  const log = join(temporaryDirectory(), "log");
  const server = await startServer([`--filter=${filter}`, testPlugin("calllog"), `log=${log}`]);
  const [first, second] = [
    await RawClient.open(server.socket),
    await RawClient.open(server.socket),
  ];
  first.socket.end();
  await first.closed();
  expect(await second.request({ type: FLUSH })).toBe(0);
  second.socket.end();
  await second.closed();
  await server.stop();
  const calls = readFileSync(log, "utf8").match(/^(open|flush|close|cleanup).*$/gm);
  const open = "open readonly=0 name=the-default is_tls=0";
  expect(calls).toEqual([open, "flush the-default flags=0", "close the-default", "cleanup"]);
});

test("a filter's own request that is never answered ends with the server", async () => {
  const filter = compiled("share", SHARING_FILTER);
  const words = [`--filter=${filter}`, "--grace=1", testPlugin("asyncprobe")];
  const server = await startServer(words, { env: LEAKS_AT_EXIT });
  const [first, second] = [
    await RawClient.open(server.socket),
    await RawClient.open(server.socket),
  ];
  first.sendRequest({ type: READ, offset: 655360n, length: 512 });
  expect(await second.request({ type: FLUSH })).toBe(0);
  first.socket.end();
  await new Promise((resolve) => setTimeout(resolve, 1500)); // its grace: nothing shows its end
  expect(await second.request({ type: FLUSH })).toBe(0);
  server.kill("SIGTERM");
  expect((await server.ended).status).toBe(1); // the plugin may still reply
});

// The plugin's programs do not run with a sanitizer's library.
test.skipIf(sanitizer)("a layer above a filter may read while it opens", async () => {
  const disk = join(temporaryDirectory(), "disk.img");
  const table = Buffer.alloc(8 * 512);
  table.set([0, 0, 0, 0, 0x83, 0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0], 446); // seven sectors from the first
  table.set([0x55, 0xaa], 510);
  writeFileSync(disk, table.fill(7, 512));
  const plugin = [
    debianPlugin("eval"),
    "thread_model=echo serialize_all_requests",
    `get_size=stat -c %s ${disk}`,
    `pread=dd if=${disk} iflag=skip_bytes,count_bytes skip=$4 count=$3 status=none`,
  ];
  const chain = ["--filter=partition", `--filter=${debianFilter("nocache")}`];
  const command = clean('nbdinfo --size "$uri"; nbdcopy "$uri" - | tr -d "\\007" | wc -c');
  const args = ["-U", "-", ...chain, ...plugin, "partition=1", "--run", command];
  expect(await runAsyncnbd(args)).toMatchObject({ status: 0, stdout: "3584\n0\n" });
});

test("a filter limits the thread model of a plugin in TypeScript", async () => {
  const directory = temporaryDirectory();
  const plugin = join(directory, "plugin.mjs");
  writeFileSync(plugin, 'export default { name: "small", getSize: () => 512, pread() {} };');
  const serialize = [`--filter=${debianFilter("noparallel")}`, plugin];
  const { stdout } = await runAsyncnbd(["--dump-plugin", ...serialize, "serialize=requests"]);
  expect(stdout).toContain("max_thread_model=parallel\nthread_model=serialize_requests\n");
});
