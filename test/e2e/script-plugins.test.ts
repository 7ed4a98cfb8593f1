// Plugins in TypeScript and JavaScript, as the command loads them, with real clients.

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { run, runOk } from "../support/command.js";
import { verifyByFio } from "../support/fio.js";
import { MIB } from "../support/fixtures.js";
import { CMD, ERRNO, OPT, REP } from "../support/protocol.js";
import { goData, RawClient } from "../support/raw-client.js";
import {
  asyncnbd,
  clean,
  eventually,
  runAsyncnbd,
  serverEnvironment,
  startServer,
  temporaryDirectory,
} from "../support/server.js";

const ram = new URL("../../examples/ram.ts", import.meta.url).pathname;
const { EIO, EINVAL, ENOSPC } = ERRNO;

/** A plugin's source in a file of its own; returns its path. */
function plugin(text: string, name = "disk.ts"): string {
  const path = join(temporaryDirectory(), name);
  writeFileSync(path, text);
  return path;
}

const tiny = (body: string): string => `import { definePlugin, failure } from "asyncnbd";
import { appendFileSync } from "node:fs";
export default definePlugin({ name: "tiny", getSize: () => ${MIB}, ${body} });
`;

async function connected(socket: string): Promise<RawClient> {
  const client = await RawClient.connect(socket);
  await client.greet();
  client.sendOption(OPT.GO, goData(""));
  while ((await client.readOptionReply()).type !== REP.ACK);
  return client;
}

test.each(["ts", "mjs", "cjs"])(
  "a plugin, .%s, may use all parts of the package",
  async (extension) => {
    const names = { definePlugin: "", connect: "/client", cow: "/middleware" };
    const imports = Object.entries(names).map(([name, part]) =>
      extension === "cjs"
        ? `const { ${name} } = require("asyncnbd${part}");`
        : `import { ${name} } from "asyncnbd${part}";`,
    );
    const made = `cow()(definePlugin({
    name: "mirror",
    config: { uri: "string" },
    async open() { return connect(this.config.uri); },
    close: (origin) => origin.close(),
    getSize: (origin) => origin.size,
    async pread(origin, buf, offset) { await origin.read(offset, buf); },
  }))`;
    const exported = extension === "cjs" ? "module.exports =" : "export default";
    const path = plugin(`${imports.join("\n")}\n${exported} ${made};`, `mirror.${extension}`);
    const origin = await startServer([ram, "1M"]);
    await runOk(["qemu-io", "-f", "raw", "-c", "write -P 7 0 1M", origin.uri]);
    const mirror = await startServer([path, `uri=${origin.uri}`]);
    await runOk(["qemu-io", "-f", "raw", "-c", "write -P 8 0 64k", mirror.uri]);
    await runOk(["qemu-io", "-r", "-f", "raw", "-c", "read -P 8 0 64k", mirror.uri]);
    await runOk(["qemu-io", "-r", "-f", "raw", "-c", "read -P 7 64k 960k", mirror.uri]);
    await runOk(["qemu-io", "-r", "-f", "raw", "-c", "read -P 7 0 1M", origin.uri]);
  },
);

test("the example serves a disk that reads back what was written", async () => {
  const server = await startServer([ram, "64M"]);
  const io = ["qemu-io", "-f", "raw", "-c", "write -P 5 0 40M", "-c", "write -z 1M 1M"];
  await runOk([...io, "-c", "read -P 5 2M 38M", "-c", "read -P 0 1M 1M", server.uri]);
  await verifyByFio(server, [
    ...["--rw=randrw", "--bsrange=512-64k", "--blockalign=512", "--iodepth=32", "--size=8M"],
  ]);
  await server.stop();
});

test.each(["disk.ts", "disk.mts", "disk.cts", "disk.js", "disk.mjs"])(
  "%s with a default export",
  async (name) => {
    const path = plugin(tiny("pread: (_h, buf) => { buf.fill(3); }"), name);
    const server = await startServer([path]);
    await runOk(["qemu-io", "-r", "-f", "raw", "-c", "read -P 3 0 1M", server.uri]);
    await server.stop();
  },
);

test.each([
  ["a named export", `exports.disk = { name: "n", getSize: () => ${MIB}, pread() {} };`],
  ["module.exports", `module.exports = { name: "n", getSize: () => ${MIB}, pread() {} };`],
  ["a class", `module.exports = class { name = "n"; getSize() { return ${MIB}; } pread() {} };`],
])("CommonJS with %s", async (_what, text) => {
  const { stdout } = await runAsyncnbd([
    plugin(text, "disk.cjs"),
    "--run",
    'unset LD_PRELOAD; nbdinfo --size "$uri"',
  ]);
  expect(stdout).toBe(`${MIB}\n`);
});

test("a script may name asyncnbd as its interpreter", async () => {
  const directory = temporaryDirectory();
  const command = join(directory, "asyncnbd");
  writeFileSync(command, `#!/bin/sh\nexec ${asyncnbd.join(" ")} "$@"\n`, { mode: 0o755 });
  const path = join(directory, "disk.ts");
  const text = "export default { name: 'n', config: { size: 'size' }, pread() {},";
  writeFileSync(
    path,
    `#!/usr/bin/env asyncnbd\n${text} getSize() { return this.config.size; } };`,
    { mode: 0o755 },
  );
  const env = { ...serverEnvironment(), PATH: `${directory}:${process.env.PATH}` };
  const { stdout } = await run([path, "size=5M", "--run", clean('nbdinfo --size "$uri"')], { env });
  expect(stdout).toBe(`${5 * MIB}\n`);
});

test("an installed package is served by its short name", async () => {
  const cwd = temporaryDirectory();
  const folder = join(cwd, "node_modules", "asyncnbd-plugin-mine");
  mkdirSync(folder, { recursive: true });
  writeFileSync(
    join(folder, "index.js"),
    "exports.p = { name: 'mine', getSize: () => 1, pread() {} }",
  );
  const { stdout } = await runAsyncnbd(["--dump-plugin", "mine"], { cwd });
  expect(stdout).toContain("name=mine\n");
});

test("callbacks get flags and arguments, and emulation is nbdkit's", async () => {
  const log = join(temporaryDirectory(), "log");
  const note = `(what, ...args) => appendFileSync("${log}", [what, ...args].join(" ") + "\\n")`;
  const path = plugin(`import { appendFileSync } from "node:fs";
    const note = ${note};
    export default { name: "all", getSize: () => ${MIB}, canFua: () => "native",
      open: (o) => { note("open", o.exportName, o.readonly); return "h"; },
      close: (h) => note("close", h),
      pread: async (h, buf, at) => note("pread", h, buf.length, at),
      pwrite: async (h, buf, at, r) => note("pwrite", h, buf.length, at, r.fua),
      flush: async (h) => note("flush", h),
      trim: async (h, n, at, r) => note("trim", h, n, at, r.fua),
      cache: async (h, n, at) => note("cache", h, n, at),
      zero: async (h, n, at, r) => { note("zero", h, n, at, r.fua, r.mayTrim, r.fastZero);
        if (at === 8192) throw Object.assign(new Error(), { code: "ENOTSUP" }); } };`);
  const server = await startServer([path], { noProbe: true });
  const client = await connected(server.socket);
  const at = { offset: 4096n, length: 512 };
  for (const [type, flags, expected] of [
    [1, 1, 0],
    [3, 0, 0],
    [4, 1, 0],
    [5, 0, 0],
    [6, 1, 0],
    [6, 2, 0],
  ] as const) {
    const payload = type === CMD.WRITE ? Buffer.alloc(512) : undefined;
    const range = type === CMD.FLUSH ? {} : at;
    expect(await client.request({ type, flags, ...range, ...(payload && { payload }) })).toBe(
      expected,
    );
  }
  expect(await client.request({ type: CMD.WRITE_ZEROES, offset: 8192n, length: 1024 })).toBe(0);
  client.send();
  client.socket.end();
  await client.closed();
  await server.stop();
  expect(readFileSync(log, "utf8").trimEnd().split("\n")).toEqual([
    "open  false",
    "pwrite h 512 4096 true",
    "flush h",
    "trim h 512 4096 true",
    "cache h 512 4096",
    "zero h 512 4096 true true false",
    "zero h 512 4096 false false false",
    "zero h 1024 8192 false true false",
    "pwrite h 1024 8192 false",
    "close h",
  ]);
});

describe("a callback that fails", () => {
  test.each([
    ['throw failure("ENOSPC", "full")', ENOSPC],
    ['throw new Error("odd")', EIO],
    ['throw "a string"', EIO],
    ["throw undefined", EIO],
    ['return Promise.reject(failure("EINVAL", "no"))', EINVAL],
    ['await null; throw failure("ENOSPC", "late")', ENOSPC],
  ])("%s", async (statement, expected) => {
    const isAsync = statement.startsWith("await") ? "async " : "";
    const path = plugin(
      tiny(`${isAsync}pread(_h, _buf, offset) {
      if (offset < 4096) return;
      ${statement};
    }`),
    );
    const server = await startServer([path]);
    const client = await connected(server.socket);
    expect(await client.request({ type: CMD.READ, offset: 4096n, length: 512 })).toBe(expected);
    expect(await client.request({ type: CMD.READ, offset: 0n, length: 512 })).toBe(0); // and goes on
    await client.read(512);
    const { stderr } = await server.stop();
    if (statement.includes("Error(")) expect(stderr).toContain(`${path}:5:`); // its own line
  });

  test("in open refuses the export, in preconnect the client", async () => {
    const opened = await startServer([
      plugin(tiny('open() { throw new Error("shut"); }, pread() {}')),
    ]);
    await expect(runOk(["nbdinfo", opened.uri])).rejects.toThrow();
    expect((await opened.stop()).stderr).toContain("shut");
    const refusing = await startServer([plugin(tiny("preconnect: () => false, pread() {}"))]);
    await expect(runOk(["nbdinfo", refusing.uri])).rejects.toThrow();
    await refusing.stop();
  });
});

test("a request that is never answered gets its signal, and the server can stop", async () => {
  const log = join(temporaryDirectory(), "log");
  const path = plugin(
    tiny(`pread(_h, _buf, _offset, { signal }) {
    signal.addEventListener("abort", () => appendFileSync("${log}", "aborted\\n"));
    return new Promise(() => {});
  }, close() { appendFileSync("${log}", "closed\\n"); }`),
  );
  const server = await startServer([path], { options: ["--grace=1"] });
  const client = await connected(server.socket);
  client.sendRequest({ type: CMD.READ, offset: 0n, length: 4096 });
  client.socket.destroy();
  await eventually("abort", () =>
    readFileSync(log, { encoding: "utf8", flag: "a+" }).includes("aborted") ? true : undefined,
  );
  await eventually("close", () =>
    readFileSync(log, "utf8").includes("closed") ? true : undefined,
  );
  expect((await server.stop()).stderr).toContain("the plugin did not answer");
});

test("requestTimeoutMs answers for the plugin, and late data does no harm", async () => {
  const path = plugin(
    tiny(`requestTimeoutMs: 50, async pread(_h, buf, offset) {
    if (offset > 0) await new Promise((resolve) => setTimeout(resolve, 300));
    buf.fill(offset > 0 ? 1 : 2);
  }`),
  );
  const server = await startServer([path]);
  const client = await connected(server.socket);
  expect(await client.request({ type: CMD.READ, offset: 4096n, length: 4096 })).toBe(EIO);
  const end = Date.now() + 500;
  while (Date.now() < end) {
    expect(await client.request({ type: CMD.READ, offset: 0n, length: 4096 })).toBe(0);
    expect((await client.read(4096)).equals(Buffer.alloc(4096, 2))).toBe(true);
  }
  expect((await server.stop()).stderr).toContain("tiny did not answer within 50 ms");
});

test("checkBuffers detaches buffers at the reply", async () => {
  const path = plugin(
    tiny(`async pread(_h, buf) {
    buf.fill(1);
    setTimeout(() => console.error("length after the reply:", buf.length), 50);
  }`),
  );
  const server = await startServer([path], { env: { ASYNCNBD_CHECK_BUFFERS: "1" } });
  await runOk(["qemu-io", "-r", "-f", "raw", "-c", "read -P 1 0 4096", server.uri]);
  await eventually("the report", () =>
    server.stderr().includes("length after the reply: 0") ? true : undefined,
  );
  await server.stop();
});

test.each([
  ["serialize_all_requests", 1],
  ["serialize_requests", 1],
  ["parallel", 16],
])("thread model %s: %d at once", async (model, expected) => {
  const path = plugin(
    tiny(`threadModel: "${model}", async pread() {
    globalThis.most = Math.max(globalThis.most ?? 0, (globalThis.now = (globalThis.now ?? 0) + 1));
    await new Promise((resolve) => setTimeout(resolve, 20));
    globalThis.now--;
  }, cleanup() { console.error("most", globalThis.most); }`),
  );
  const server = await startServer([path]);
  const client = await connected(server.socket);
  for (let i = 0; i < 16; i++) client.sendRequest({ type: CMD.READ, offset: 0n, length: 512 });
  await client.read(16 * (16 + 512));
  client.socket.end();
  await client.closed();
  expect((await server.stop()).stderr).toContain(`most ${expected}\n`);
});

describe("start-up errors", () => {
  test.each([
    ["a missing file", () => "/nonexistent/disk.ts", "there is no such file"],
    ["no plugin in it", () => plugin("export const x = 1;"), "exports no plugin"],
    ["a syntax error", () => plugin("const = ;"), "disk.ts"],
    [
      "an unusable name",
      () => plugin(tiny("pread() {}").replace("tiny", "a b")),
      "is not a valid plugin name",
    ],
    ["load fails", () => plugin(tiny('load() { throw new Error("sad"); }, pread() {}')), "sad"],
  ])("%s", async (_what, make, expected) => {
    const { status, stderr } = await runAsyncnbd([make(), "--run", "true"]);
    expect(status).toBe(1);
    expect(stderr).toContain(expected);
  });

  test.each([
    [["sise=1"], 'no parameter "sise"'],
    [[], "needs the parameter size="],
    [["size=1x"], "not a size"],
    [["size=-1"], "not a size"],
  ])("parameters %j", async (parameters, expected) => {
    const { status, stderr } = await runAsyncnbd([ram, ...parameters, "--run", "true"]);
    expect(status).toBe(1);
    expect(stderr).toContain(expected);
  });
});
