// serve({ signal }): an abort while the plugin starts rejects at once, whatever the plugin does.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { program, runProgram } from "../support/program.js";
import { temporaryDirectory } from "../support/server.js";

const middleware = fileURLToPath(new URL("../../dist/middleware/index.js", import.meta.url));

const HELPERS = `
  const { cow, defineMiddleware } = await import(${JSON.stringify(middleware)});
  const { createServer } = await import("node:net");
  const { existsSync } = await import("node:fs");
  const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  const stop = new AbortController();
  const { signal } = stop;
  let begin;
  const begun = new Promise((resolve) => { begin = resolve; });
  const never = () => { begin(); return new Promise(() => {}); };
  const calls = [];
  const plugin = (more) => ({ name: "never", getSize: () => 4096, pread() {},
    unload: () => void calls.push("unload"), cleanup: () => void calls.push("cleanup"), ...more });
  // Aborts what has begun, and tells at the end whether that came soon.
  const abort = async (starting) => {
    const rejected = assert.rejects(starting, (error) => error === reason);
    const reason = new Error("enough");
    await begun;
    stop.abort(reason);
    const abortedMs = performance.now();
    await rejected;
    process.on("exit", () => console.log(performance.now() - abortedMs < 3000 ? "soon" : "late"));
  };
  // Takes connections, and says nothing.
  const silent = async () => {
    const server = createServer((socket) => {
      begin();
      socket.on("error", () => {}).unref();
    });
    await once(server.listen(0, "127.0.0.1"), "listening");
    return server.unref();
  };
  const http = async () => {
    const { port } = (await silent()).address();
    return { plugin: "http", config: { url: "http://127.0.0.1:" + port + "/disk" } };
  };
`;

/** A module, in a folder of its own, where `never` makes a file before it hangs. */
function moduleOf(first: string, more = ""): string {
  const path = join(temporaryDirectory(), "never.mjs");
  const begin = `writeFileSync(${JSON.stringify(`${path}.begun`)}, "")`;
  writeFileSync(
    path,
    `import { writeFileSync } from "node:fs";
     const never = () => { ${begin}; return new Promise(() => {}); };
     ${first}
     export default { name: "never", getSize: () => 4096, pread() {}, ${more} };`,
  );
  return JSON.stringify(path);
}

test.each([
  ["load", "{ plugin: plugin({ load: never }) }"],
  ["configComplete", "{ plugin: plugin({ configComplete: never }) }"],
  ["getReady", "{ plugin: plugin({ getReady: never }) }"],
  ["afterFork", "{ plugin: plugin({ afterFork: never }) }"],
  [
    "getReady of middleware",
    `{ plugin: plugin(), filters: [defineMiddleware({
      name: "own", open: (next, info) => next(info), getReady: never })] }`,
  ],
  ["get_ready of a C plugin", "await http()"],
  ["get_ready of a C plugin behind native filters", "{ ...await http(), filters: [cow()] }"],
])("rejects with the signal's reason during %s, and the program ends", async (_, options) => {
  expect(await program(`${HELPERS} await abort(serve({ ...${options}, signal }));`)).toBe("soon\n");
});

test.each([
  ["the import of a module", "await never();", "", "{}"],
  ["getReady of a watched module", "", "getReady: never", "{ watch: true }"],
  ["the import on worker threads", "await never();", "", "{ workers: 2 }"],
  ["getReady on worker threads", "", "getReady: never", "{ workers: 2 }"],
])("the same during %s", async (_, first, more, options) => {
  const path = moduleOf(first, more);
  const body = `
    const starting = serve({ plugin: ${path}, ...${options}, signal });
    while (!existsSync(${path} + ".begun")) await sleep(10);
    begin();
    await abort(starting);`;
  expect(await program(HELPERS + body)).toBe("soon\n");
});

test("a call that returns later is the last one before the plugin's end", async () => {
  await program(`${HELPERS}
    let settle;
    const late = (name) => () => {
      calls.push(name);
      begin();
      return new Promise((resolve) => { settle = resolve; });
    };
    const listen = { unix: process.argv[1] + ".sock" };
    const order = ["load", "configComplete", "getReady", "afterFork"];
    const noting = Object.fromEntries(order.map((name) => [name, () => void calls.push(name)]));
    for (const [index, name] of order.entries()) {
      const stop = new AbortController();
      calls.length = 0;
      const options = plugin({ ...noting, [name]: late(name) });
      const rejected = assert.rejects(serve({ plugin: options, listen, signal: stop.signal }), { name: "AbortError" });
      while (!calls.includes(name)) await sleep(1);
      stop.abort();
      await rejected;
      assert.deepEqual(calls, order.slice(0, index + 1));
      settle();
      while (!calls.includes("unload")) await sleep(1);
      const end = name === "afterFork" ? ["cleanup", "unload"] : ["unload"];
      assert.deepEqual(calls, [...order.slice(0, index + 1), ...end]);
      assert.ok(!existsSync(listen.unix));
    }`);
});

test("a C plugin's get_ready may fail after that", async () => {
  await program(`${HELPERS}
    const server = await silent();
    const sockets = [];
    server.on("connection", (socket) => sockets.push(socket));
    const { port } = server.address();
    const config = { url: "http://127.0.0.1:" + port + "/disk", retries: 0 };
    const logger = Object.fromEntries(["debug", "info", "warn", "error"].map((level) =>
      [level, (text) => calls.push(text)]));
    await abort(serve({ plugin: "http", config, signal, logger }));
    for (const socket of sockets) socket.destroy();
    while (!calls.some((text) => text.includes("127.0.0.1"))) await sleep(10);`);
});

test("the socket goes at once, and another server may have it", async () => {
  await program(`${HELPERS}
    const listen = { unix: process.argv[1] + ".sock" };
    const starting = serve({ plugin: plugin({ afterFork: never }), listen, signal });
    await begun;
    assert.ok(existsSync(listen.unix));
    const rejected = assert.rejects(starting, { name: "AbortError" });
    stop.abort();
    assert.ok(!existsSync(listen.unix));
    await rejected;
    const next = await serve({ plugin: plugin(), listen });
    assert.ok(existsSync(listen.unix));
    await next.close();`);
});

test("a logger may abort at the last moment", async () => {
  await program(`${HELPERS}
    const listen = { unix: process.argv[1] + ".sock" };
    const debug = (text) => void (text.includes("chain: ") && stop.abort());
    const logger = { debug, info() {}, warn() {}, error(text) { calls.push(text); } };
    const starting = serve({ plugin: plugin(), listen, signal, logger });
    await assert.rejects(starting, { name: "AbortError" });
    while (!calls.includes("unload")) await sleep(1);
    assert.deepEqual(calls, ["cleanup", "unload"]);
    while (existsSync(listen.unix)) await sleep(1);`);
});

test("a cleanup that fails after an abort is logged, and the program goes on", async () => {
  await program(`${HELPERS}
    const errors = [];
    const logger = { debug() {}, info() {}, warn() {}, error: (text) => void errors.push(text) };
    const failing = plugin({ cleanup() { throw new Error("no way"); } });
    const server = await serve({ plugin: failing, signal, logger });
    stop.abort();
    while (errors.length === 0) await sleep(1);
    assert.match(errors[0], /^never: cleanup: Error: no way/);
    await assert.rejects(server.close(), /no way/);`);
});

test("process.exit() does not wait for the call", async () => {
  const { status } = await runProgram(`${HELPERS}
    await abort(serve({ ...await http(), signal }));
    process.exit(7);`);
  expect(status).toBe(7);
});

test("a thread whose start was aborted ends, and the process goes on", async () => {
  const body = `${HELPERS}
    const { isMainThread, Worker } = await import("node:worker_threads");
    if (isMainThread) {
      const [status] = await once(new Worker(new URL(import.meta.url)), "exit");
      console.log(status);
    } else {
      await abort(serve({ ...await http(), signal }));
    }`;
  expect(await program(body)).toMatch(/^soon\n0\n$/);
});
