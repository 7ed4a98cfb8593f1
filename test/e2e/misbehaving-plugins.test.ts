// Plugins in TypeScript whose values, errors and exceptions are not what they should be: one request
// fails, and nobody else notices.

import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { run } from "../support/command.js";
import { MIB } from "../support/fixtures.js";
import { CMD, ERRNO, INFO } from "../support/protocol.js";
import { RawClient } from "../support/raw-client.js";
import {
  runAsyncnbd,
  serverEnvironment,
  startServer,
  temporaryDirectory,
} from "../support/server.js";
import { StrictClient } from "../support/strict-client.js";

const index = new URL("../../dist/index.js", import.meta.url).pathname;

const { EIO, ESHUTDOWN } = ERRNO;

function plugin(body: string): string {
  const path = join(temporaryDirectory(), "disk.ts");
  writeFileSync(path, `export default { name: "odd", getSize: () => ${MIB}, ${body} };`);
  return path;
}

/** Reads at 0 are as they should be; those at 4096 do this. */
const reading = (statement: string): string =>
  plugin(`pread(_handle, buf, offset) { buf.fill(7); if (offset === 4096) { ${statement} } }`);

const ok = "Promise.resolve()";
const hidden = "Object.create(null)";

describe("a read that returns or throws", () => {
  test.each<[string, string, number]>([
    ["a thenable that settles twice", "return { then(ok) { ok(); ok(); } };", 0],
    ["one that fulfils, then rejects", "return { then(ok, no) { ok(); no(new Error('x')); } };", 0],
    ["one that settles, then throws", "return { then(ok) { ok(); throw new Error('x'); } };", 0],
    [
      "one that settles twice, later",
      "return { then(ok) { setTimeout(() => { ok(); ok(); }, 5); } };",
      0,
    ],
    [
      "a thenable of a thenable",
      "return { then(ok) { ok({ then(fine) { fine(); fine(); } }); } };",
      0,
    ],
    ["one whose then throws", "return { then() { throw new Error('x'); } };", EIO],
    ["one whose then cannot be had", "return { get then() { throw new Error('x'); } };", EIO],
    ["a then that is no function", "return { then: 5 };", 0],
    [
      "a promise with a then of its own",
      `return Object.assign(${ok}, { then() { throw 1; } });`,
      0,
    ],
    ["what passes for a promise", "return Object.create(Promise.prototype);", EIO],
    [
      "a proxy without a prototype",
      "return new Proxy({}, { getPrototypeOf() { throw 1; } });",
      EIO,
    ],
    ["its buffer", "return buf;", 0],
    [
      "an error whose message cannot be had",
      "throw Object.defineProperty(new Error(), 'message', { get() { throw 1; } });",
      EIO,
    ],
    [
      "an error whose message is no text",
      "throw Object.assign(new Error(), { message: { a: 1 } });",
      EIO,
    ],
    [
      "an error whose code and stack cannot be had",
      "throw Object.defineProperties(new Error('x'), { code: { get() { throw 1; } }, stack: { get() { throw 1; } } });",
      EIO,
    ],
    ["what cannot be made a text", `throw ${hidden};`, EIO],
    ["nothing, as a rejection", "return Promise.reject();", EIO],
  ])("%s: %s", async (_what, statement, expected) => {
    const server = await startServer([reading(statement)]);
    const odd = await RawClient.open(server.socket);
    const other = await RawClient.open(server.socket);
    // What is answered twice would be an answer to one of these.
    for (let i = 0; i < 20; i++) {
      odd.sendRequest({ type: CMD.READ, offset: 4096n, length: 512, cookie: 1n });
      for (let j = 0; j < 4; j++)
        other.sendRequest({ type: CMD.READ, offset: 0n, length: 512, cookie: BigInt(j) });
      expect(await odd.readReply()).toEqual({ error: expected, cookie: 1n });
      if (expected === 0) await odd.read(512);
      for (let j = 0; j < 4; j++) {
        expect((await other.readReply()).error).toBe(0);
        expect((await other.read(512)).equals(Buffer.alloc(512, 7))).toBe(true);
      }
    }
    await server.stop();
  });
});

describe("extents", () => {
  test.each([
    ["that never end", "while (true) yield { offset, length: 0, hole: true, zero: true };"],
    [
      "of a byte each",
      "for (let at = 0; ; at++) yield { offset: at, length: 1, hole: true, zero: true };",
    ],
    ["that are no numbers", "yield { offset: NaN, length: 512, hole: true, zero: true };"],
    ["of half a byte", "yield { offset, length: 0.5, hole: true, zero: true };"],
    ["that cannot be read", "yield { offset, get length() { throw new Error('x'); } };"],
  ])("%s block nobody, in a generator or an asynchronous one", async (what, statement) => {
    for (const kind of ["*", "async *"]) {
      const path = plugin(`pread(_handle, buf) { buf.fill(7); },
        ${kind}extents(_handle, _count, offset) { ${statement} }`);
      const server = await startServer([path]);
      const client = await StrictClient.connect(server.socket, {
        style: "structured",
        contexts: ["base:allocation"],
      });
      const [status] = await client.requests({ type: CMD.BLOCK_STATUS, offset: 0n, length: MIB });
      if (!what.includes("a byte each")) expect(status?.error).toBe(EIO);
      const [large] = await client.requests({ type: CMD.READ, offset: 0n, length: 65_536 });
      expect(large?.error).toBe(0);
      await client.disconnect();
      await server.stop();
    }
  });
});

test("a message of 5 MB is cut, for the client and in the log", async () => {
  const path = reading('throw new Error("é".repeat(2_500_000));');
  const server = await startServer([path]);
  const client = await StrictClient.connect(server.socket, { style: "structured" });
  const [reply] = await client.requests({ type: CMD.READ, offset: 4096n, length: 512 });
  expect(reply?.error).toBe(EIO);
  expect(reply?.errorText).toBe("é".repeat(512));
  await client.disconnect();
  const { stderr } = await server.stop();
  expect(stderr.length).toBeLessThan(20_000);
  expect(stderr).toContain("(2500000 characters)");
  expect(stderr).toContain(`${path}:1:`); // where it was thrown
});

test("many requests that are given up take a few lines of the log", async () => {
  const server = await startServer([plugin("pread: () => new Promise(() => {})")], {
    options: ["--grace=1"],
  });
  const client = await RawClient.open(server.socket);
  // No more than a client that has had no replies may have in flight: the server reads them all, and
  // so sees the end behind them.
  for (let i = 0; i < 2000; i++) client.sendRequest({ type: CMD.READ, offset: 0n, length: 512 });
  client.socket.end();
  await client.closed();
  const { stderr } = await server.stop();
  expect(stderr).toContain("the plugin did not answer (nor 1999 more requests): giving up");
  expect(stderr.trimEnd().split("\n").length).toBeLessThan(20);
});

test("a failed open is logged once, with the plugin's own stack alone", async () => {
  const path = plugin("open() { throw new Error('shut'); }, pread() {}");
  const { stderr } = await runAsyncnbd([
    "-U",
    "-",
    path,
    "--run",
    'unset LD_PRELOAD; nbdinfo "$uri"',
  ]);
  const lines = stderr.split("\n").filter((line) => /shut|^ +at /.test(line));
  expect(lines).toHaveLength(2);
  expect(lines[0]).toBe("asyncnbd: error: odd: Error: shut");
  expect(lines[1]).toContain(`${path}:1:`);
});

describe("while a plugin is saturated", () => {
  const busy = "const end = performance.now() + 1; while (performance.now() < end);";

  test.each([
    ["at once", `pread() { ${busy} globalThis.reads = (globalThis.reads ?? 0) + 1; }`],
    [
      "after a moment",
      `async pread() { await null; ${busy} globalThis.reads = (globalThis.reads ?? 0) + 1; }`,
    ],
  ])("by reads of a millisecond that work %s, new clients are greeted", async (_how, pread) => {
    const path = plugin(`${pread}, exportDescription: () => String(globalThis.reads)`);
    const server = await startServer([path]);
    const clients = await Promise.all(
      Array.from({ length: 8 }, () => RawClient.open(server.socket)),
    );
    // Work for much longer than the test takes.
    for (const client of clients)
      for (let i = 0; i < 2000; i++)
        client.sendRequest({ type: CMD.READ, offset: 0n, length: 512 });
    await clients[0]?.read(16);
    const readsWhenGreeted = async (): Promise<number> => {
      const { infos } = await StrictClient.connect(server.socket, { infos: [INFO.DESCRIPTION] });
      return Number(infos.get(INFO.DESCRIPTION)?.toString());
    };
    const before = await readsWhenGreeted();
    const after = await readsWhenGreeted();
    expect(after - before).toBeGreaterThan(0);
    expect(after - before).toBeLessThan(500); // each takes a millisecond
    for (const client of clients) client.socket.destroy();
    server.kill("SIGKILL");
    await server.ended;
  });
});

describe("an exception that a plugin does not catch", () => {
  test.each([
    [
      "an exception",
      "setTimeout(() => { throw new Error('boom'); }, 1)",
      [],
      "uncaught exception: Error: boom",
    ],
    [
      "a rejection",
      "void (async () => { await null; throw new Error('boom'); })()",
      [],
      "Error: boom",
    ],
    [
      "one on another thread",
      "setTimeout(() => { throw new Error('boom'); }, 1)",
      ["--workers=2"],
      "Error: boom",
    ],
    ["a listener's", "process.nextTick(() => { throw 'boom'; })", [], "uncaught exception: boom"],
    [
      "a rejection without an error",
      "Promise.reject('boom')",
      [],
      "unhandled promise rejection: boom\n",
    ],
    ["one on another thread without one", "Promise.reject('boom')", ["--workers=2"], ": boom\n"],
  ])("%s ends the server orderly", async (_what, statement, options, words) => {
    const path = plugin(`pread(_handle, buf, offset) {
      buf.fill(7);
      if (offset === 0) return new Promise((resolve) => setTimeout(resolve, 200));
      if (offset === 512) return new Promise(() => {});
      ${statement};
    }`);
    const server = await startServer([path], { options });
    const client = await RawClient.open(server.socket);
    client.sendRequest({ type: CMD.READ, offset: 0n, length: 512, cookie: 1n });
    client.sendRequest({ type: CMD.READ, offset: 512n, length: 512, cookie: 2n });
    client.sendRequest({ type: CMD.READ, offset: 4096n, length: 512, cookie: 3n });
    expect(await client.readReply()).toEqual({ error: 0, cookie: 3n });
    await client.read(512);
    expect(await client.readReply()).toEqual({ error: 0, cookie: 1n });
    await client.read(512);
    expect(await client.readReply()).toEqual({ error: ESHUTDOWN, cookie: 2n });
    await client.closed();
    const { status, stderr } = await server.ended;
    expect(status).toBe(1);
    expect(stderr).toContain(words);
    if (words.includes("Error")) expect(stderr).toMatch(/at .*disk\.ts:/);
    expect(stderr).not.toContain("/dist/");
    expect(existsSync(server.socket)).toBe(false);
  });

  test("before the server serves stops the start", async () => {
    const path = plugin(`pread() {},
      load: () => new Promise(() => { setTimeout(() => { throw new Error('early'); }, 1); })`);
    const { status, stderr } = await runAsyncnbd(["-U", "-", path, "--run", "true"]);
    expect(status).toBe(1);
    expect(stderr).toContain("uncaught exception: Error: early");
  });

  test("in a program reaches the program", async () => {
    const directory = temporaryDirectory();
    const path = join(directory, "program.mjs");
    writeFileSync(
      path,
      `import { serve } from ${JSON.stringify(index)};
      let server;
      process.on("uncaughtException", async (error) => {
        console.log("the program has it:", error.message);
        await server.close();
      });
      server = await serve({ listen: "nothing", plugin: {
        name: "odd", getSize: () => 1, pread() {},
        open() { setTimeout(() => { throw new Error("boom"); }, 1); },
      } });
      const client = new (await import("node:net")).Socket({ fd: server.connectPair() });
      await new Promise((resolve) => client.once("data", resolve));
      client.write(Buffer.from("0000000149484156454f50540000000100000000", "hex"));`,
    );
    const env = serverEnvironment();
    expect(await run([process.execPath, path], { env })).toMatchObject({
      status: 0,
      stdout: "the program has it: boom\n",
    });
  });

  test("is reported by a server in the background, too", async () => {
    const socket = join(temporaryDirectory(), "sock");
    const path = plugin(
      "afterFork() { setTimeout(() => { throw new Error('boom'); }, 300); }, pread() {}",
    );
    const { status, stderr } = await runAsyncnbd(["-v", "-U", socket, "--log=stderr", path]);
    expect(status).toBe(0); // the launcher's; stderr was the server's until its end
    expect(stderr).toContain("uncaught exception: Error: boom");
    expect(existsSync(socket)).toBe(false);
  });
});
