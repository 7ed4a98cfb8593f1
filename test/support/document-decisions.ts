// What is done with each piece of code and each command in the documentation, to see that it works.

/** Another place where this is run, and words that are there; .ci/run without `--silent`. */
export interface Elsewhere {
  readonly elsewhere: readonly [file: string, words: string];
}

/** Why it is not run. */
export interface NotRun {
  readonly cannot: string;
}

export type Decision =
  /** Run after those with a lower number. */
  | { readonly commands: number; readonly but?: Readonly<Record<string, Elsewhere | NotRun>> }
  /** TypeScript: the file it is. */
  | { readonly module: string }
  /** A whole file that the document's commands build. */
  | { readonly source: string }
  /** It is what a file has. */
  | { readonly same: string }
  /** A part of a program in C: what it takes to be whole, before it and in place of parts of it. */
  | { readonly part: string; readonly with?: readonly [string, string] }
  | Elsewhere
  | NotRun;

const PLUGIN_IN_C = `
#define NBDKIT_API_VERSION 2
#include <string.h>
#include <nbdkit-plugin.h>
#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL
struct handle { int fd; };
static char disk[512];
static void *mine_open (int readonly) { (void) readonly; return disk; }
static int64_t mine_get_size (void *handle) { (void) handle; return sizeof disk; }
static int mine_pread (void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{ (void) handle, (void) flags; memcpy (buf, disk + offset, count); return 0; }
`;
const inC: Decision = { part: PLUGIN_IN_C };

const ROOT =
  "systemd.test.ts does this as a user, in a systemd of its own: root's is the machine's";

const drawing: Decision = { cannot: "it is a drawing" };

/** By the document and how the block begins. */
export const BLOCKS: Readonly<Record<string, Decision>> = {
  "docs/architecture.md:  TypeScript, src/": drawing,
  "docs/architecture.md:  client ──► socket": drawing,
  "docs/architecture.md:  leaders, workers": drawing,
  "docs/architecture.md:  thread A ── push": drawing,
  "docs/architecture.md:                      ┌── busy": drawing,
  "README.md: $ npm install": {
    elsewhere: ["test/package/documentation.test.ts", 'console("README.md", "$ npm install")'],
  },
  "README.md: $ scripts/demo": { elsewhere: [".ci/run", "scripts/demo"] },
  "README.md: $ scripts/test": { elsewhere: [".ci/run", "scripts/test\n"] },
  "README.md: $ asyncnbd -U disk.sock": { commands: 1 },
  "README.md: import { definePlugin }": { module: "my-disk.ts" },
  "README.md: $ cc ": { commands: 2 },
  "CONTRIBUTING.md: $ scripts/build-variant": {
    elsewhere: ["test/support/server.ts", "-print-file-name=libasan.so"],
  },
  "docs/async-plugins.md: #include <nbdkit-async.hpp>": { source: "cxx-ram.cpp" },
  "docs/async-plugins.md: $ export PKG": { commands: 1 },
  "docs/async-plugins.md: #define": {
    part: `
#include <stdbool.h>
#include <stdint.h>
static int store_read (void *handle, void *buf, uint32_t count, uint64_t offset, void *conn,
                       uint64_t reqid)
{ (void) handle, (void) buf, (void) count, (void) offset, (void) conn, (void) reqid; return 0; }
`,
  },
  "docs/c-plugins.md: $ cc ": { commands: 1 },
  "docs/c-plugins.md: static const void *mine_lend": {
    part: PLUGIN_IN_C,
    with: ["...", '.name = "mine", .open = mine_open, .get_size = mine_get_size,'],
  },
  "docs/c-plugins.md: struct disk": {
    part: PLUGIN_IN_C,
    with: ["...", '.name = "mine", .open = mine_open, .config = mine_config,'],
  },
  "docs/c-plugins.md: static void *mine_place": inC,
  "docs/c-plugins.md: static int mine_read_fd": inC,
  "docs/c-plugins.md: static int mine_write_fd": inC,
  "docs/c-plugins.md: $ export PKG_CONFIG_PATH=\"$(asyncnbd --dump-config | sed -n 's/^asyncnbd_datadir=//p')\"\n$ cc -g -fPIC -shared $(pkg-config --cflags asyncnbd) -o mine.so mine.c\n$ valgrind ":
    { elsewhere: ["test/e2e/debugging.test.ts", 'follow("$ valgrind "'] },
  "docs/c-plugins.md: $ export PKG_CONFIG_PATH=\"$(asyncnbd --dump-config | sed -n 's/^asyncnbd_datadir=//p')\"\n$ cc -fPIC":
    { commands: 2 },
  "docs/c-plugins.md: $ export PKG_CONFIG_PATH=\"$(asyncnbd --dump-config | sed -n 's/^asyncnbd_datadir=//p')\"\n$ cc -g -fPIC -shared $(pkg-config --cflags asyncnbd) -o mine.so mine.c\n$ gdb ":
    { elsewhere: ["test/e2e/debugging.test.ts", 'follow("$ gdb "'] },
  "docs/c-plugins.md: $ export PKG_CONFIG_PATH=\"$(asyncnbd --dump-config | sed -n 's/^asyncnbd_datadir=//p')\"\n$ gcc -g -fsanitize=undefined ":
    { elsewhere: ["test/e2e/debugging.test.ts", 'follow("-fsanitize=undefined"'] },
  "docs/c-plugins.md: $ export PKG_CONFIG_PATH=\"$(asyncnbd --dump-config | sed -n 's/^asyncnbd_datadir=//p')\"\n$ gcc -g -fsanitize=thread ":
    { elsewhere: ["test/e2e/debugging.test.ts", 'follow("-fsanitize=thread"'] },
  "docs/c-plugins.md: $ export PKG_CONFIG_PATH=\"$(asyncnbd --dump-config | sed -n 's/^asyncnbd_datadir=//p')\"\n$ gcc -g -fsanitize=address ":
    { elsewhere: ["test/e2e/debugging.test.ts", 'follow("-fsanitize=address"'] },
  "docs/client.md: import { connect }": { module: "client.ts" },
  "docs/client-command.md: $ asyncnbd -U disk.sock": {
    elsewhere: ["test/e2e/client-command.test.ts", "docs/client-command.md"],
  },
  "docs/command.md: $ asyncnbd --completion": { commands: 1 },
  "docs/embedding.md: import { definePlugin, serve }": { module: "embedding.ts" },
  "docs/errors.md: import { AsyncnbdError": { module: "errors.ts" },
  "docs/filters.md: $ asyncnbd --filter=cow": { commands: 1 },
  "docs/filters.md: $ asyncnbd --filter=openonce": {
    commands: 14,
    but: {
      "asyncnbd --filter=openonce ssh": { cannot: "there is no server of SSH for the ssh plugin" },
    },
  },
  "docs/filters.md: $ asyncnbd --filter=swab": { commands: 3 },
  "docs/filters.md: $ asyncnbd --filter=offset": { commands: 8 },
  "docs/filters.md: $ cc ": { commands: 4 },
  "docs/filters.md: $ asyncnbd --filter=error": { commands: 5 },
  "docs/filters.md: $ asyncnbd --filter=log": { commands: 6 },
  "docs/filters.md: 2026-08-06": {
    elsewhere: ["test/differential/filters.test.ts", "logfile="],
  },
  "docs/filters.md: $ asyncnbd --filter=rate": { commands: 7 },
  "docs/filters.md: $ asyncnbd --filter=retry": { commands: 10 },
  "docs/filters.md: $ asyncnbd --filter=stats": { commands: 9 },
  "docs/filters.md: $ asyncnbd --filter=blocksize": { commands: 10 },
  "docs/filters.md: $ printf": { commands: 11 },
  "docs/filters.md: $ asyncnbd --filter=partition": { commands: 12 },
  "docs/filters.md: $ asyncnbd --filter=readahead": { commands: 13 },
  "docs/filters.md: $ asyncnbd --filter=ip": { commands: 10 },
  "docs/filters.md: $ asyncnbd --filter=protect": { commands: 11 },
  "docs/filters.md: import { defineFilter,": { module: "office-hours.ts" },
  "docs/filters.md: $ asyncnbd --filter=./office-hours.ts": { commands: 2 },
  "docs/plugins.md: $ asyncnbd memory": { commands: 1 },
  "docs/plugins.md: $ asyncnbd file": { commands: 2 },
  "docs/plugins.md: $ asyncnbd async-file": { commands: 3 },
  "docs/plugins.md: $ asyncnbd rbd": {
    elsewhere: ["test/e2e/rbd.test.ts", 'serve("rbd/ours/disk", "create=4M")'],
  },
  "docs/plugins.md: $ rbd create": {
    elsewhere: ["test/e2e/rbd-luks.test.ts", '"rbd", "encryption", "format"'],
  },
  "docs/plugins.md: $ asyncnbd null": { commands: 4 },
  "docs/plugins.md: $ asyncnbd delay-memory": { commands: 5 },
  "docs/plugins.md: $ asyncnbd http https://example.com/disk.img header-script-renew": {
    elsewhere: ["test/e2e/http-cookies.test.ts", '"header-script-renew=1"'],
  },
  "docs/plugins.md: $ asyncnbd --filter=cow http": { commands: 6 },
  "docs/plugins.md: $ asyncnbd s3": {
    elsewhere: ["test/e2e/s3.test.ts", '"object-size=64K",'],
  },
  "docs/plugins.md: $ asyncnbd ram": { commands: 7 },
  "docs/protocol.md: import { definePlugin }": { module: "dirty.ts" },
  "docs/protocol.md: $ asyncnbd ./dirty.ts": { commands: 1 },
  "docs/remote.md: $ asyncnbd --filter=cache http": { commands: 1 },
  "docs/remote.md: $ asyncnbd s3": {
    elsewhere: ["test/e2e/s3.test.ts", '"object-size=64K",'],
  },
  "docs/releasing.md: $ scripts/release\n": { elsewhere: [".ci/run", "scripts/release"] },
  "docs/releasing.md: $ ASYNCNBD_TARBALL=": {
    elsewhere: ["scripts/release", "ASYNCNBD_TARBALL=$to/$tarball"],
  },
  "docs/releasing.md: $ scripts/release v": {
    cannot: "it takes as long again as the release that .ci/run makes",
  },
  "docs/performance.md: $ npm run bench:matrix": {
    elsewhere: [".ci/run", "npm run bench:matrix -- --smoke"],
  },
  "docs/releasing.md: $ npm run bench -- --out": {
    elsewhere: [".ci/run", "npm run bench:plugins -- --seconds"],
  },
  "docs/service.md: $ units": { cannot: ROOT },
  "docs/service.md: $ sudo mkdir": { cannot: ROOT },
  "docs/service.md: $ echo": { cannot: ROOT },
  "docs/testing.md: $ npm install": {
    elsewhere: ["test/package/template.test.ts", '"fast-check", "pure-rand"'],
  },
  "docs/testing.md: import assert": { module: "mounted.ts" },
  "docs/testing.md: import { checkModel }": { module: "checked.ts" },
  "docs/testing.md: import { copyFileSync": { module: "restarted.ts" },
  "docs/testing.md: import { faults": { module: "faulty.ts" },
  "docs/testing.md: plugin my-disk": {
    elsewhere: ["test/e2e/testing.test.ts", "is reported with its byte"],
  },
  "docs/tls.md: $ asyncnbd --tls=require": { commands: 2 },
  "docs/tls.md: $ openssl": { commands: 1 },
  "docs/tls.md: $ mkdir": { commands: 3 },
  "docs/tls.md: import { serve }": { module: "encrypted.ts" },
  "docs/tutorial.md: $ ": { elsewhere: ["test/package/tutorial.test.ts", '"docs/tutorial.md"'] },
  "docs/tutorial.md: {": { same: "examples/tutorial/tsconfig.json" },
  "docs/tutorial.md: // A disk in memory.": { same: "examples/tutorial/src/ram.ts" },
  "docs/tutorial.md: // The disk in memory behind": {
    same: "examples/tutorial/test/ram.test.ts",
  },
  "docs/tutorial.md: // AES-256": { same: "examples/tutorial/src/xts.ts" },
  "docs/tutorial.md: // The header in the first sector": {
    same: "examples/tutorial/src/header.ts",
  },
  "docs/tutorial.md: // A filter": { same: "examples/tutorial/src/encrypted.ts" },
  "docs/tutorial.md: // The encrypted disk": { same: "examples/tutorial/test/encrypted.test.ts" },
  "docs/tutorial.md: // Blocks in an SQLite database": { same: "examples/tutorial/src/store.ts" },
  "docs/tutorial.md: // A disk in a database": { same: "examples/tutorial/src/deduplicated.ts" },
  "docs/tutorial.md: // The deduplicating disk": {
    same: "examples/tutorial/test/deduplicated.test.ts",
  },
  "docs/typescript-plugins.md: import { definePlugin }": { module: "my-disk.ts" },
  "docs/typescript-plugins.md: $ asyncnbd --help": {
    commands: 1,
    but: { "nbd-client ": { cannot: "it needs a kernel with the module nbd, and a file system" } },
  },
  "docs/typescript-plugins.md: $ cp ": {
    elsewhere: [
      "test/package/documentation.test.ts",
      'console("docs/typescript-plugins.md", "$ cp ")',
    ],
  },
  "docs/typescript-plugins.md: {": { same: "examples/typescript-plugin/tsconfig.json" },
  "docs/typescript-plugins.md: import { allocateDisk": { module: "ram.ts" },
  "docs/typescript-plugins.md: import { z }": { module: "zeroes.ts" },
  "docs/typescript-plugins.md: import { serve }": { module: "program.ts" },
  "docs/typescript-plugins.md: import { log, retry }": { module: "logged-disk.ts" },
  "docs/typescript-plugins.md: $ asyncnbd ./logged-disk.ts": { commands: 2 },
  "docs/typescript-plugins.md: import { defineMiddleware }": { module: "inverted.ts" },
  "docs/typescript-plugins.md: $ asyncnbd --filter=./inverted.ts": { commands: 3 },
};

const CI = (words: string): Elsewhere => ({ elsewhere: [".ci/run", words] });
const TOOL = { cannot: "this is the tool's, with a number or a file that only its user knows" };
const LONG = { cannot: "it takes an hour, for figures and not for a result" };

/** Commands in sentences and tables: what is run for them. */
export const IN_PROSE: Readonly<Record<string, { readonly run: string } | Elsewhere | NotRun>> = {
  ".ci/run": { cannot: "it is what runs this" },
  "ASYNCNBD_TEST_SANITIZER=address scripts/test": CI(
    "ASYNCNBD_TEST_SANITIZER=address scripts/test",
  ),
  "ASYNCNBD_TEST_SANITIZER=thread scripts/test --project native": CI(
    "ASYNCNBD_TEST_SANITIZER=thread scripts/test --project native",
  ),
  "node test/native/simulation/plant-faults.mjs": {
    cannot: "it compiles the simulation again for each fault, and runs it for a minute",
  },
  "asyncnbd --dump-config": { run: "asyncnbd --dump-config | grep -q ^includedir=/" },
  "asyncnbd --dump-plugin PLUGIN": { run: "asyncnbd --dump-plugin memory | grep -q ^name=memory" },
  "asyncnbd --help": { run: "asyncnbd --help | grep -q -e --foreground" },
  "asyncnbd --help PLUGIN": { run: "asyncnbd --help memory | grep -q size=" },
  "asyncnbd memory 1G": { run: "asyncnbd memory 1G" },
  "gdb --args node dist/cli/main.js -f …": TOOL,
  "gdb -p PID": TOOL,
  "man asyncnbd": { elsewhere: ["test/package/documentation.test.ts", '"man", "-w"'] },
  "node --inspect dist/cli/main.js memory 1G": {
    elsewhere: ["test/package/template.test.ts", '"--inspect=0"'],
  },
  "node -e 0": { run: "node -e 0" },
  "node bench/silent-clients.mjs --clients 1000 --attacks unread": {
    run: "node $CLONE/bench/silent-clients.mjs --clients 5 --attacks unread --seconds 0.2 --backends ram.ts | grep 'anon'",
  },
  "npm ci": { elsewhere: ["scripts/setup", "npm ci"] },
  "npm install -g .": {
    run: "cd $CLONE && npm install -g . --prefix $SANDBOX/installed --ignore-scripts --offline --silent && $SANDBOX/installed/bin/asyncnbd --version",
  },
  "npm install --save-dev typescript @types/node@20": {
    elsewhere: ["test/package/package.test.ts", '"@types/node@20"'],
  },
  "npm publish ./release/asyncnbd-VERSION.tgz": { cannot: "it would publish this" },
  "npm run bench": CI("npm run bench -- --quick"),
  "npm run bench:documents": {
    elsewhere: ["test/unit/published-figures.test.ts", "withFigures(read(document))"],
  },
  "npm run bench:latency": CI("npm run bench:latency -- --quick"),
  "npm run bench:layers": LONG,
  "npm run bench:matrix": CI("npm run bench:matrix -- --smoke"),
  "npm run bench:pairs": LONG,
  "npm run bench:pairs -- --other DIR": LONG,
  "npm run bench:plugins": CI("npm run bench:plugins -- --seconds"),
  "npm run bench:start": CI("npm run bench:start -- --rounds"),
  "npm run bench:remote": CI("npm run bench:remote -- --parts"),
  "npm run bench:tls": CI("npm run bench:tls -- --seconds"),
  "npm run build": { elsewhere: ["package.json", "npm run compile && scripts/prebuild"] },
  "npm run compile": { elsewhere: ["package.json", "npm run compile && scripts/prebuild"] },
  "npm run conformance": { elsewhere: ["test/unit/conformance.test.ts", "WRITE_CONFORMANCE"] },
  "npm run debug": { elsewhere: ["test/package/template.test.ts", '"npm", "run", "debug"'] },
  "npm run docs": { elsewhere: ["scripts/lint", "npm run docs"] },
  "npm run soak": { elsewhere: ["package.json", "--project soak"] },
  "npm start": { elsewhere: ["test/package/template.test.ts", '"npm", "start"'] },
  "npm test": { elsewhere: ["test/package/template.test.ts", 'npm("test")'] },
  "npx node-gyp build": { elsewhere: ["scripts/prebuild", '" build'] },
  "objdump -T": { elsewhere: ["test/package/binaries.test.ts", "objdump"] },
  "objdump -s -j .comment FILE": {
    run: "objdump -s -j .comment $CLONE/build/Release/asyncnbd.node | grep -q GCC",
  },
  "perf record": TOOL,
  "perf record -g -p PID": TOOL,
  "scripts/fuzz SECONDS": CI("scripts/fuzz 30"),
  "scripts/install-packages": { elsewhere: ["scripts/test", "scripts/install-packages tests"] },
  "scripts/install-packages clients offline emulation": {
    elsewhere: ["scripts/release", "scripts/install-packages clients offline emulation"],
  },
  "scripts/install-packages build arm64": {
    elsewhere: ["scripts/prebuild", "scripts/install-packages arm64"],
  },
  "scripts/lint": CI("scripts/lint"),
  "scripts/man-pages.mjs": { elsewhere: ["test/e2e/manual.test.ts", '"man-pages.mjs"'] },
  "scripts/pack DIRECTORY": { elsewhere: ["test/package/pack.ts", '"pack"'] },
  "scripts/package-deb": { elsewhere: ["test/package/deb.test.ts", '"package-deb"'] },
  "scripts/prebuild": { elsewhere: ["test/package/pack.ts", '"prebuild"'] },
  "scripts/prebuild arm64": { elsewhere: ["scripts/release", "scripts/prebuild"] },
  "scripts/release": CI("scripts/release"),
  "scripts/setup": { elsewhere: ["scripts/test", "scripts/setup"] },
  "scripts/test": CI("scripts/test"),
  "scripts/test --project unit": CI("--project unit"),
  "scripts/test-newest-node": CI("scripts/test-newest-node"),
  "source <(asyncnbd --completion=bash)": {
    run: "source <(asyncnbd --completion=bash) && complete -p asyncnbd",
  },
  "strace -c -f": TOOL,
  "strace -f -c -p PID": TOOL,
  "systemctl edit asyncnbd@backup.service": { cannot: ROOT },
  "systemctl status": { cannot: ROOT },
  "systemd-run --scope -p MemorySwapMax=0 asyncnbd …": { cannot: ROOT },
  "valgrind --tool=callgrind": TOOL,
};
