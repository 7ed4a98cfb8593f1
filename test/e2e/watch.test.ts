// --watch: a plugin's new version takes over while clients stay.

import { cpSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { CMD } from "../support/protocol.js";
import { RawClient } from "../support/raw-client.js";
import { eventually, runAsyncnbd, startServer, temporaryDirectory } from "../support/server.js";

const root = fileURLToPath(new URL("../../", import.meta.url));

const version = (byte: number, { size = 65_536, more = "" } = {}): string => `
  import { definePlugin } from "asyncnbd";
  export default definePlugin({
    name: "versions",
    config: { add: { type: "integer", default: 0 } },
    open() { return { byte: ${byte} + this.config.add }; },
    close({ byte }) { this.log.error("close " + byte); },
    getSize: () => ${size},
    pread: (handle, buf) => { buf.fill(handle.byte); },
    unload() { this.log.error("unload ${byte}"); },
    ${more}
  });`;

async function byteOf(client: RawClient): Promise<number> {
  expect(await client.request({ type: CMD.READ, offset: 0n, length: 1 })).toBe(0);
  return (await client.read(1))[0] as number;
}

async function watched(file = "disk.ts", options: string[] = []) {
  const path = join(temporaryDirectory(), file);
  writeFileSync(path, version(1));
  const server = await startServer([path, "add=100"], { options: ["--watch", ...options] });
  let seen = 0;
  /** Replaces the file as editors do, and waits for what the server says of it. */
  const edit = async (text: string): Promise<string> => {
    writeFileSync(`${path}.new`, text);
    renameSync(`${path}.new`, path);
    const lines = await eventually("word of the reload", () => {
      const lines = server.stderr().match(/--watch: .*(reloaded.*|keeping the old version)/g) ?? [];
      return lines.length > seen ? lines : undefined;
    });
    seen = lines.length;
    return lines.at(-1) as string;
  };
  return { server, edit };
}

test.each(["disk.ts", "disk.mjs"])(
  "a client continues with the new version of %s",
  async (file) => {
    const { server, edit } = await watched(file);
    const client = await RawClient.open(server.socket);
    expect(await byteOf(client)).toBe(101);
    expect(await edit(version(2))).toMatch(/reloaded \S+$/);
    expect(await byteOf(client)).toBe(102);
    await eventually("the end of the old", () => /unload 1/.test(server.stderr()) || undefined);
    expect(server.stderr()).toContain("close 101");
    expect(await byteOf(await RawClient.open(server.socket))).toBe(102);
    const { stderr } = await server.stop();
    expect(stderr.match(/unload/g)).toHaveLength(2);
  },
);

test.each([
  ["disk.mjs", "number.mjs", "module"],
  ["disk.js", "number.js", "module"],
  ["disk.js", "number.js", "commonjs"],
  ["disk.cjs", "number.cjs", "commonjs"],
  ["disk.ts", "number.mjs", "commonjs"],
  ["disk.mjs", "number.cjs", "commonjs"],
])(
  "%s without our imports, and %s beside it, are reloaded in a folder of type %s",
  async (file, other, type) => {
    const folder = temporaryDirectory();
    writeFileSync(join(folder, "package.json"), JSON.stringify({ type }));
    const isCommon = (name: string) =>
      name.endsWith(".cjs") || (name.endsWith(".js") && type !== "module");
    const write = (byte: number): void => {
      const value = `${byte}`;
      writeFileSync(
        join(folder, other),
        isCommon(other) ? `exports.b = ${value};` : `export const b = ${value};`,
      );
      const body = `{ name: "n", getSize: () => 512, pread(_h, buf) { buf.fill(10 * ${byte} + n.b); } }`;
      const text = isCommon(file)
        ? `const n = require("./${other}"); module.exports = ${body};`
        : `import * as m from "./${other}"; const n = m.default ?? m; export default ${body};`;
      writeFileSync(`${join(folder, file)}.new`, text);
      renameSync(`${join(folder, file)}.new`, join(folder, file));
    };
    write(1);
    const server = await startServer([join(folder, file)], { options: ["--watch"] });
    const client = await RawClient.open(server.socket);
    expect(await byteOf(client)).toBe(11);
    for (const byte of [2, 3]) {
      write(byte);
      await eventually(
        "the new version",
        async () => (await byteOf(client)) === 11 * byte || undefined,
      );
    }
    await server.stop();
  },
);

test("if the size changes, clients keep the old version until they leave", async () => {
  const { server, edit } = await watched();
  const client = await RawClient.open(server.socket);
  expect(await edit(version(2, { size: 4096 }))).toContain("1 clients keep the old version");
  expect(await byteOf(client)).toBe(101);
  expect(await byteOf(await RawClient.open(server.socket))).toBe(102);
  expect(server.stderr()).not.toContain("unload 1");
  client.socket.destroy();
  await eventually("the end of the old", () => /unload 1/.test(server.stderr()) || undefined);
  await server.stop();
});

test.each([
  ["cannot be parsed", "export default {", 0],
  [
    "wants other parameters",
    version(2).replace('"integer", default: 0', '"enum", values: ["x"]'),
    1,
  ],
  ["fails to get ready", version(2, { more: "getReady() { throw new Error('no'); }," }), 1],
])("a version that %s changes nothing, and is unloaded", async (_what, text, unloaded) => {
  const { server, edit } = await watched();
  const client = await RawClient.open(server.socket);
  expect(await edit(text)).toContain("keeping the old version");
  expect(server.stderr().match(/unload 2/g) ?? []).toHaveLength(unloaded);
  expect(await byteOf(client)).toBe(101);
  expect(await edit(version(3))).toContain("reloaded");
  expect(await byteOf(client)).toBe(103);
  await server.stop();
});

test("requests in flight are answered by their own version", async () => {
  const { server, edit } = await watched();
  const slow =
    "async pread(h, buf) { await new Promise((r) => setTimeout(r, 700)); buf.fill(h.byte); },";
  await edit(version(2).replace(/pread: .*/, slow));
  const client = await RawClient.open(server.socket);
  client.sendRequest({ type: CMD.READ, offset: 0n, length: 1 });
  await edit(version(3));
  expect((await client.readReply()).error).toBe(0);
  expect((await client.read(1))[0]).toBe(102);
  expect(await byteOf(client)).toBe(103);
  await server.stop();
});

test("watching works on several threads and behind a filter", async () => {
  const { server, edit } = await watched("disk.ts", [
    "--workers=2",
    "--filter=cow",
    "--filter=readonly",
  ]);
  const clients = await Promise.all([1, 2].map(() => RawClient.open(server.socket)));
  await edit(version(2));
  for (const client of clients)
    await eventually("the new version", async () => (await byteOf(client)) === 102 || undefined);
  await server.stop();
});

test("the server's own modules are not reloaded, even if they lie below the plugin", async () => {
  const folder = temporaryDirectory();
  const copy = join(folder, "asyncnbd");
  for (const part of ["dist", "build/Release", "package.json", "node_modules/jiti"])
    cpSync(join(root, part), join(copy, part), { recursive: true, dereference: true });
  const path = join(folder, "disk.cjs");
  // Loaded for the first time by the second version: a copy of it would have another class.
  const late = (size: number) => `
    const { definePlugin, AsyncnbdError } = require(${JSON.stringify(copy)} + "/dist/index.cjs");
    globalThis.first ??= AsyncnbdError;
    console.error("the same: " + (globalThis.first === AsyncnbdError));
    module.exports = definePlugin({ name: "late", getSize: () => ${size}, pread() {} });`;
  writeFileSync(path, late(512));
  const command = [process.execPath, join(copy, "dist/cli/main.js")];
  const server = await startServer([path], { command, options: ["--watch"] });
  writeFileSync(path, late(1024));
  const told = /the same: (\w+)[\s\S]*the same: (\w+)/;
  const same = await eventually(
    "the second version",
    () => told.exec(server.stderr()) ?? undefined,
  );
  expect(same.slice(1)).toEqual(["true", "true"]);
  await server.stop();
});

test("a C plugin cannot be watched", async () => {
  const { status, stderr } = await runAsyncnbd([
    "--watch",
    "-U",
    "-",
    "memory",
    "1M",
    "--run",
    "true",
  ]);
  expect(status).toBe(1);
  expect(stderr).toContain("--watch: memory is a C plugin");
});
