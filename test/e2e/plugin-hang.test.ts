// The end comes whatever a plugin hangs in, in a bounded time after the first signal.

import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Finished, run, runOk } from "../support/command.js";
import { RawClient } from "../support/raw-client.js";
import {
  asyncnbd,
  clean,
  eventually,
  runAsyncnbd,
  sanitizer,
  startServer,
  testPlugin,
} from "../support/server.js";

const directory = mkdtempSync(join(tmpdir(), "asyncnbd-test-"));
const blockingLibrary = join(directory, "blocking.so");
const lockingAllocator = join(directory, "locking.so");

function compile(output: string, source: string): void {
  writeFileSync(join(directory, "source.c"), source);
  execFileSync("gcc", ["-shared", "-fPIC", join(directory, "source.c"), "-o", output]);
}

beforeAll(() => {
  compile(
    blockingLibrary,
    `#include <unistd.h>
     __attribute__((constructor)) static void block(void) { for (;;) pause(); }`,
  );
  compile(
    lockingAllocator,
    `#include <stddef.h>
     #include <unistd.h>
     extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
     static volatile int locked;
     void lock_memory(void) { locked = 1; }
     static void wait(void) { while (locked) pause(); }
     void *malloc(size_t size) { wait(); return __libc_malloc(size); }
     void *calloc(size_t n, size_t size) { wait(); return __libc_calloc(n, size); }
     void *realloc(void *old, size_t size) { wait(); return __libc_realloc(old, size); }`,
  );
});
afterAll(() => rmSync(directory, { recursive: true }));

const TERM = 15;
const GRACE_MS = 2_000;
/** For a process of Node's to end, on a machine that has much else to do. */
const EXIT_SLACK_MS = 3_000;
/** A command that stops its server, and ends when that has noticed and takes no clients any more. */
const STOP = "kill $PPID; while nbdinfo --size $uri >/dev/null 2>&1; do :; done";
const sockets = (): string[] => readdirSync(directory).filter((name) => name.endsWith(".sock"));

/** Serves until the command of --run sends the signal. */
async function end(hang: string, { env = {}, command = STOP } = {}): Promise<Finished> {
  const socket = join(directory, `${hang}.sock`);
  const plugin = [testPlugin("lifecycle"), `hang=${hang}`, `library=${blockingLibrary}`];
  const args = ["--grace=1", "-U", socket, ...plugin, "--run", command];
  return runAsyncnbd(args, { env });
}

describe.skipIf(sanitizer !== undefined)("a plugin", () => {
  test.concurrent.each([
    ["close", 1, "a close or another call for 2 clients did not return within 2.0 s: giving up"],
    ["drained", 1, "closing what all clients share did not return within 2.0 s: giving up"],
    ["cleanup", 128 + TERM, /^cleanup did not return within (2.0|1.\d) s: forcing the exit$/],
    ["unload", 128 + TERM, /^unload did not return within (2.0|1.\d) s: forcing the exit$/],
  ])(
    "whose %s does not return is named and ended after the grace period",
    async (hang, status, words) => {
      const server = await startServer([testPlugin("lifecycle"), `hang=${hang}`], {
        options: [`--grace=${GRACE_MS / 1000}`],
      });
      await Promise.all([RawClient.open(server.socket), RawClient.open(server.socket)]);
      const begunMs = performance.now();
      server.kill("SIGTERM");
      const ended = await server.ended;
      const tookMs = performance.now() - begunMs;
      const [, text] = /^asyncnbd: error: lifecycle: (.*)\n$/.exec(ended.stderr) ?? [];
      expect(text, ended.stderr).toMatch(words);
      expect(ended.status).toBe(status);
      expect(tookMs).toBeGreaterThan(GRACE_MS - 100);
      expect(tookMs).toBeLessThan(GRACE_MS + EXIT_SLACK_MS);
      expect(existsSync(server.socket)).toBe(false);
    },
  );

  test.concurrent.each([
    ["a destructor that waits for a thread", "destructor"],
    ["a thread that holds the loader's lock", "loader"],
  ])("that hangs after serving well: %s", async (_, hang) => {
    const { status, stdout, stderr } = await end(hang, {
      command: `timeout 20 nbdinfo --size $uri; ${STOP}`,
    });
    expect(stdout).toBe("4096\n");
    expect(stderr).toBe(
      "asyncnbd: error: the process did not exit, possibly because of a plugin's threads or " +
        "destructors: forcing the exit\n",
    );
    expect(status).toBe(0);
    expect(sockets()).not.toContain(`${hang}.sock`);
  });

  test.concurrent("that leaves the allocator locked", async () => {
    const { status, stderr } = await end("memory", { env: { LD_PRELOAD: lockingAllocator } });
    // In its cleanup: who asks for memory next, and when, is left to chance.
    expect(stderr).toMatch(
      /^asyncnbd: error: (lifecycle: (cleanup|unload) did not return within \d\.\d s|the JavaScript thread is blocked and the server cannot stop): forcing the exit\n$/,
    );
    expect(status).toBe(128 + TERM);
    expect(sockets()).not.toContain("memory.sock");
  });

  test.concurrent("that writes to a log that nobody reads", async () => {
    const log = join(directory, "log");
    await runOk(["mkfifo", log]);
    const plugin = [testPlugin("lifecycle"), "hang=log"];
    const socket = join(directory, "log.sock");
    const command = [
      ...asyncnbd,
      "--grace=1",
      "-U",
      socket,
      ...plugin,
      "--run",
      `"${STOP.replaceAll("$", "\\$")}"`,
    ];
    const { stdout } = await run(["sh", "-c", `${command.join(" ")} 2<>${log}; echo $?`]);
    expect(stdout).toBe(`${128 + TERM}\n`);
    expect(sockets()).not.toContain("log.sock");
  });

  test.concurrent("in TypeScript whose cleanup never resolves, or that leaves a timer", async () => {
    const plugin = (name: string, text: string): string => {
      const path = join(directory, `${name}.ts`);
      const all = `{ name: "${name}", getSize: () => 4096, pread() {}, ${text} }`;
      writeFileSync(
        path,
        `import { definePlugin } from "asyncnbd";\nexport default definePlugin(${all});`,
      );
      return path;
    };
    const waits = plugin("waits", "cleanup: () => new Promise(() => setInterval(() => {}, 1000))");
    const ticks = plugin("ticks", "afterFork() { setInterval(() => {}, 1000); }");
    const statuses = [waits, ticks].map(async (path) => {
      const args = ["--grace=1", "-U", "-", path, "--run", STOP];
      return (await runAsyncnbd(args)).status;
    });
    expect(await Promise.all(statuses)).toEqual([128 + TERM, 0]);
  });
});

/** Puts a module of a plugin with these callbacks in its place; `forEver` never settles. */
function writeHanging(name: string, callbacks: string): string {
  const path = join(directory, `${name}.mjs`);
  const plugin = `{ name: "${name}", getSize: () => 4096, pread() {}, ${callbacks} }`;
  const text = `
    const forEver = () => new Promise(() => setInterval(() => {}, 1000));
    export default ${plugin};`;
  writeFileSync(`${path}.new`, text);
  renameSync(`${path}.new`, path);
  return path;
}

describe.skipIf(sanitizer !== undefined)("after the grace a signal ends", () => {
  test.concurrent.each([
    ["", []],
    [" on a worker thread", ["--workers=1"]],
  ] as const)("an afterFork that hangs%s, which is named", async (_, options) => {
    const name = `starting${options.length}`;
    const callback = 'afterFork() { process.kill(process.pid, "SIGTERM"); return forEver(); }';
    const socket = join(directory, `${name}.sock`);
    const args = ["-f", "--grace=1", "-U", socket, ...options, writeHanging(name, callback)];
    const { status, stderr } = await runAsyncnbd(args);
    expect(stderr).toBe(
      `asyncnbd: error: ${name}: afterFork did not return within 1.0 s: forcing the exit\n`,
    );
    expect(status).toBe(128 + TERM);
    expect(existsSync(socket)).toBe(false);
  });

  test.concurrent("a reload that hangs, which is named; what it serves cleans up", async () => {
    const cleanup = "cleanup() { this.log.error('cleans up'); }";
    const plugin = writeHanging("reloaded", cleanup);
    const server = await startServer([plugin], { options: ["--watch", "--grace=1"] });
    writeHanging("reloaded", "getReady() { this.log.error('hangs'); return forEver(); }");
    await eventually("the reload", () => server.stderr().includes("hangs") || undefined);
    server.kill("SIGTERM");
    const { status, stderr } = await server.ended;
    const words = "getReady of the new version did not return within …: forcing the exit";
    const lines = ["hangs", "cleans up", words];
    const text = stderr.replace(/\b(1\.0|0\.\d) s\b/, "…"); // what requests have left
    expect(text).toBe(lines.map((line) => `asyncnbd: error: reloaded: ${line}\n`).join(""));
    expect(status).toBe(128 + TERM);
  });
});

/** A plugin in TypeScript that has this besides. */
function script(body: string): string {
  const path = join(directory, "plugin.mjs");
  writeFileSync(path, `export default { name: "never", getSize: () => 512, pread() {}, ${body} };`);
  return path;
}

test.each(["load", "configComplete", "getReady", "afterFork", "cleanup", "unload"])(
  "a promise of %s that can never settle is an error, and the socket is removed",
  async (callback) => {
    const plugin = script(`${callback}: () => new Promise(() => {})`);
    const socket = join(directory, "never.sock");
    const { status, stderr } = await runAsyncnbd(["-U", socket, plugin, "--run", "true"]);
    expect(stderr).toBe(
      `asyncnbd: error: never: ${callback} returned a promise that will never settle\n`,
    );
    expect(status).toBe(1);
    expect(sockets()).toEqual([]);
  },
);

test("a plugin that ends the process sets the exit status, and the socket is removed", async () => {
  const plugin = script("open() { process.exit(7); }");
  const socket = join(directory, "exit.sock");
  const args = ["-U", socket, plugin, "--run", clean('nbdinfo "$uri"')];
  expect((await runAsyncnbd(args)).status).toBe(7);
  expect(sockets()).toEqual([]);
});
