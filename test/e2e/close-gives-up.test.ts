// A program whose close() has given up ends by itself all the same, whatever the plugin hangs in.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { NBD_REQUEST_MAGIC } from "../../src/protocol.js";
import { joined, u32 } from "../support/bytes.js";
import { program, runProgram } from "../support/program.js";
import { OPT } from "../support/protocol.js";
import { encodeOption, RawClient } from "../support/raw-client.js";
import { startServer, temporaryDirectory, testPlugin } from "../support/server.js";

const middleware = fileURLToPath(new URL("../../dist/middleware/index.js", import.meta.url));
const ENTER = joined([u32(3), encodeOption(OPT.EXPORT_NAME)]).toString("hex");
/** NBD_CMD_READ of 512 bytes, with a cookie of 0. */
const READ = joined([u32(NBD_REQUEST_MAGIC), Buffer.alloc(20), u32(512)]).toString("hex");

/** What requests have left of it for the end of the plugin. */
const GRACE = /\b(1\.0|0\.\d) s\b/;

/** A module with these callbacks, which may be `forEver`; `first` runs before it is loaded. */
const endlessText = (more: string, first = ""): string => `
  const forEver = () => { globalThis.begin?.(); return new Promise(() => {}); };
  ${first}
  export default { name: "endless", getSize: () => 4096, pread() {}, ${more} };`;

/** The module, in a folder of its own. */
function endlessModule(more: string): string {
  const path = join(temporaryDirectory(), "endless.mjs");
  writeFileSync(path, endlessText(more));
  return path;
}

const HELPERS = `
  const { defineMiddleware, openonce, wrapRequests } = await import(${JSON.stringify(middleware)});
  const own = wrapRequests("own", (call) => call.next());
  const lifecycle = (hang, filters = []) =>
    serve({ plugin: ${JSON.stringify(testPlugin("lifecycle"))}, config: { hang }, filters });
  const forEver = () => new Promise(() => {});
  const endless = (more) => ({ name: "endless", getSize: () => 4096, pread() {}, ...more });
  const never = endless({ close: forEver });
  // A client that opens the export, or tries to.
  const enter = async (server, request = "") => {
    const socket = connect(server.endpoint.path).on("error", () => {});
    await once(socket, "data");
    socket.write(Buffer.from("${ENTER}", "hex"));
    socket.unref();
    await Promise.race([once(server, "open"), new Promise((resolve) => setTimeout(resolve, 300))]);
    socket.write(Buffer.from(request, "hex"));
    return server;
  };
  // A client that is not greeted.
  const knock = async (server) => {
    connect(server.endpoint.path).on("error", () => {}).unref();
    await once(server, "connection");
    return server;
  };
  const read = async (server) => {
    await enter(server, "${READ}");
    while (server.getStats().inFlight === 0) await sleep(10);
    return server;
  };
  const giveUp = async (server) => {
    assert.equal(await server.close({ graceMs: 0 }), false);
    const begun = performance.now();
    process.on("exit", () => console.log(performance.now() - begun < 3000 ? "soon" : "late"));
  };
  const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
`;

describe("a program ends after its server has given up", () => {
  test.concurrent.each([
    ["drained", 'lifecycle("drained")'],
    ["a close", 'lifecycle("close").then(enter)'],
    ["a preconnect", 'lifecycle("preconnect").then(knock)'],
    ["a preconnect behind middleware", 'lifecycle("preconnect", [own]).then(knock)'],
    ["a promise of open", "serve({ plugin: endless({ open: forEver }) }).then(enter)"],
    ["a promise of preconnect", "serve({ plugin: endless({ preconnect: forEver }) }).then(knock)"],
    ["an open", 'lifecycle("open").then(enter)'],
    [
      "an open for which another client waits",
      'lifecycle("open", ["noparallel"]).then(enter).then(enter)',
    ],
    ["a read", 'lifecycle("pread").then(read)'],
    ["a read behind middleware", 'lifecycle("pread", [own]).then(read)'],
    ["a read for all in front of middleware", 'lifecycle("pread", [openonce(), own]).then(read)'],
    ["a close behind middleware", 'lifecycle("close", [own]).then(enter)'],
    ["an open behind middleware", 'lifecycle("open", [own]).then(enter)'],
    ["a close for all", 'lifecycle("close", ["openonce"]).then(enter)'],
    ["an open for all", 'lifecycle("open", ["openonce"]).then(enter)'],
    ["a close for all behind middleware", 'lifecycle("close", [own, openonce()]).then(enter)'],
    ["a close for all in front of middleware", 'lifecycle("close", [openonce(), own]).then(enter)'],
    ["an open for all in front of middleware", 'lifecycle("open", [openonce(), own]).then(enter)'],
    ["a promise of close", "serve({ plugin: never }).then(enter)"],
    ["a promise of close for all", 'serve({ plugin: never, filters: ["openonce"] }).then(enter)'],
  ])("%s", async (_, server) => {
    expect(await program(`${HELPERS} await giveUp(await ${server});`)).toBe("soon\n");
  });

  test.concurrent.each([
    ["cleanup", "{ plugin: endless({ cleanup: forEver }) }", "endless: cleanup"],
    ["unload", "{ plugin: endless({ unload: forEver }) }", "endless: unload"],
    [
      "cleanup of middleware",
      "{ plugin: endless({}), filters: [defineMiddleware({ name: 'own', open: (next, info) => next(info), cleanup: forEver })] }",
      "endless: cleanup",
    ],
    ["cleanup of a module", "{ plugin: CLEANUP }", "endless: cleanup"],
    ["cleanup of a watched module", "{ plugin: CLEANUP, watch: true }", "endless: cleanup"],
    ["cleanup on worker threads", "{ plugin: CLEANUP, workers: 2 }", "endless: cleanup"],
    ["unload on worker threads", "{ plugin: UNLOAD, workers: 2 }", "endless: unload"],
  ])("a promise of %s, which is named", async (_, options, call) => {
    const hang = (callback: string) => JSON.stringify(endlessModule(`${callback}: forEver`));
    const given = options.replace("CLEANUP", hang("cleanup")).replace("UNLOAD", hang("unload"));
    const { status, stdout, stderr } = await runProgram(
      `${HELPERS} await giveUp(await serve(${given}));`,
    );
    expect({ status, stdout }).toEqual({ status: 0, stdout: "soon\n" });
    expect(stderr.replace(GRACE, "…")).toBe(
      `asyncnbd: error: ${call} did not return within …: giving up\n`,
    );
  });

  test.concurrent("a promise of unload after a failed start", async () => {
    const body = `${HELPERS}
      const failing = endless({ getReady() { throw new Error("mine"); }, unload: forEver });
      await assert.rejects(serve({ plugin: failing, graceMs: 0 }), /mine/);`;
    const { status, stderr } = await runProgram(body);
    expect(status).toBe(0);
    expect(stderr).toMatch(/endless: unload did not return within \d\.\d s: giving up\n$/);
  });

  test.concurrent.each([
    ["the import", "await forEver();", ""],
    ["getReady", "", "getReady: forEver"],
    ["afterFork", "", "afterFork: forEver"],
  ])(
    "a reload that hangs in %s, after the cleanup of what it serves",
    async (call, first, more) => {
      const path = endlessModule("cleanup() { console.log('cleanup'); }");
      const { stdout, stderr } = await runProgram(`${HELPERS}
      const { writeFileSync } = await import("node:fs");
      const path = ${JSON.stringify(path)};
      const begun = new Promise((resolve) => { globalThis.begin = resolve; });
      const server = await serve({ plugin: path, watch: true });
      writeFileSync(path, ${JSON.stringify(endlessText(more, first))});
      await begun;
      await giveUp(server);`);
      expect(stdout).toBe("cleanup\nsoon\n");
      const words = "of the new version did not return within …: giving up";
      expect(stderr.replace(GRACE, "…")).toBe(`asyncnbd: error: endless: ${call} ${words}\n`);
    },
  );

  test.concurrent.each([
    ["watched", "{ watch: true }"],
    ["on worker threads", "{ workers: 2 }"],
    ["watched on worker threads", "{ watch: true, workers: 2 }"],
  ])("a promise of close of a plugin that is %s", async (_, options) => {
    const plugin = JSON.stringify(endlessModule("close: forEver"));
    const server = `serve({ plugin: ${plugin}, ...${options} }).then(enter)`;
    expect(await program(`${HELPERS} await giveUp(await ${server});`)).toBe("soon\n");
  });
});

test("a server that gives up leaves others alone, and its program's status", async () => {
  const { status, stdout } = await runProgram(`${HELPERS}
    const hanging = await lifecycle("drained");
    const other = await serve({ plugin: ram(), config: { size: "1M" } });
    process.exitCode = 3;
    await giveUp(hanging);
    await sleep(100);
    assert.equal((await sh(\`nbdinfo --size '\${other.uri}'\`)).trim(), "1048576");
    assert.equal(await other.close(), true);`);
  expect(stdout).toBe("soon\n");
  expect(status).toBe(3);
});

test("a plugin does not end in an open that a filter in front of middleware has given up", async () => {
  await program(`${HELPERS}
    const server = await lifecycle("late open", [openonce(), own]).then(enter);
    const begun = performance.now();
    assert.equal(await server.close(), true);
    assert.ok(performance.now() - begun > 1000, "it waits for the open");`);
});

/** Of a program that serves on a thread of its own, and lives on for a while after that. */
const onThread = (server: string): string => `${HELPERS}
  const { isMainThread, Worker } = await import("node:worker_threads");
  if (isMainThread) {
    await once(new Worker(new URL(import.meta.url)), "exit");
    await sleep(3000);
  } else {
    await giveUp(await ${server});
  }`;

test.concurrent.each(["drained", "close", "open"])(
  "%s may return after the server has given up",
  async (callback) => {
    const server = `lifecycle("late ${callback}").then(enter)`;
    const body = `${HELPERS} await giveUp(await ${server}); await sleep(3000);`;
    expect(await program(body)).toBe("late\n");
  },
);

test.concurrent.each([
  ["drained", 'lifecycle("late drained")'],
  ["a close", 'lifecycle("late close").then(enter)'],
  ["an open", 'lifecycle("late open").then(enter)'],
  ["a promise of close", "serve({ plugin: never }).then(enter)"],
])("%s may outlive the thread that has served", async (_, server) => {
  expect(await program(onThread(server))).toBe("soon\n");
});

test("a destructor that waits for a callback does not run", async () => {
  const { status, stdout, stderr } = await runProgram(`${HELPERS}
    process.exitCode = 3;
    await giveUp(await lifecycle("waiting drained"));`);
  expect({ status, stdout }).toEqual({ status: 3, stdout: "soon\n" });
  expect(stderr).toMatch(/did not return within 1\.0 s: giving up\n$/);
});

test("neither does it when the server was on a thread", async () => {
  expect(await program(onThread('lifecycle("waiting drained")'))).toBe("soon\n");
});

test("handlers of exit have the last word on the status", async () => {
  const { status } = await runProgram(`${HELPERS}
    await giveUp(await lifecycle("drained"));
    process.on("exit", () => { process.exitCode = 7; });`);
  expect(status).toBe(7);
});

test("ref() does not keep a server alive that has given up", async () => {
  const body = `${HELPERS} const server = await lifecycle("drained"); await giveUp(server);`;
  expect(await program(`${body} server.ref();`)).toBe("soon\n");
});

test.each(["", "void server.close();"])(
  "a program may exit while a call is in progress: %s",
  async (first) => {
    const { status } = await runProgram(`${HELPERS}
      const server = await lifecycle("waiting pread").then(read);
      ${first} process.exit(6);`);
    expect(status).toBe(6);
  },
);

test("a command with workers ends after its server has given up", async () => {
  const plugin = endlessModule("close: forEver");
  const server = await startServer([plugin], { options: ["--grace=1", "--workers=2"] });
  await RawClient.open(server.socket);
  server.kill("SIGTERM");
  const { status, stderr } = await server.ended;
  expect(stderr).toMatch(/endless: a close .* did not return within 1\.0 s: giving up\n$/);
  expect(status).toBe(1);
});
