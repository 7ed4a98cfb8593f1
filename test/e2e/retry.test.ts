// retry in front of plugins of all kinds: what is behind is closed and opened anew, whoever waits for
// it, and for one client alone.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { passingFilter } from "../support/passing-filter.js";
import { CMD, ERRNO } from "../support/protocol.js";
import { RawClient } from "../support/raw-client.js";
import {
  debianPlugin,
  eventually,
  type RunningServer,
  startServer,
  temporaryDirectory,
  testPlugin,
} from "../support/server.js";

const { READ, WRITE, FLUSH } = CMD;
const read = { type: READ, offset: 0n, length: 512 };
const write = { type: WRITE, offset: 0n, length: 512, payload: Buffer.alloc(512, 9) };

/** A plugin in TypeScript; reads are answered with the number of the handle. */
function disk(own: string): string {
  const path = join(temporaryDirectory(), "disk.ts");
  writeFileSync(
    path,
    `import { definePlugin, failure } from "asyncnbd";
     let opened = 0;
     const closed = new Set();
     export default definePlugin({
       name: "disk",
       open({ readonly }) {
         console.error("open " + readonly);
         return ++opened;
       },
       close(handle) {
         if (closed.has(handle)) console.error("closed twice");
         closed.add(handle);
         console.error("close " + handle);
       },
       getSize: () => 2 ** 20,
       async pread(handle, buf) {
         if (closed.has(handle)) console.error("used when it was closed");
         if (handle < 3) throw failure("EIO", "not yet");
         buf.fill(handle);
       },
       async pwrite(handle) {
         if (handle < 3) throw failure("EIO", "not yet");
       },
       flush() {},
       ${own}
     });`,
  );
  return path;
}

/** Filters, then the plugin, then parameters, in whatever order they are given. */
function start(words: readonly string[]): Promise<RunningServer> {
  const isOption = (word: string): boolean => word.startsWith("--");
  const isParameter = (word: string): boolean => !isOption(word) && word.includes("=");
  const plugin = words.filter((word) => !isOption(word) && !isParameter(word));
  const all = [...words.filter(isOption), ...plugin, ...words.filter(isParameter)];
  return startServer(all, { noProbe: true });
}

const retrying = ["--filter=retry", "retry-delay=1ms"];

const lines = (server: RunningServer, begin: string): string[] =>
  server
    .stderr()
    .split("\n")
    .filter((line) => line.startsWith(begin));

describe.each([
  ["parallel", []],
  ["serialize_requests", []],
  ["serialize_all_requests", []],
  ["serialize_connections", []],
  ["parallel", [passingFilter()]],
  ["serialize_all_requests", [passingFilter()]],
  ["parallel", ["--filter=cow"]],
  ["parallel", ["--filter=delay", "delay-read=1ms"]],
  ["parallel", ["--filter=blocksize"]],
] as const)("a plugin in TypeScript, %s, behind %j", (model, others) => {
  test("is reopened until it works", async () => {
    const path = disk(`threadModel: "${model}",`);
    const server = await start([...retrying, ...others, path]);
    const client = await RawClient.open(server.socket);
    expect(await client.request(read)).toBe(0);
    expect(await client.read(512)).toEqual(Buffer.alloc(512, 3));
    expect(await client.request(write)).toBe(0);
    expect(await client.request({ type: FLUSH })).toBe(0);
    client.socket.end();
    await server.stop();
    expect(lines(server, "open")).toHaveLength(3);
    expect(lines(server, "close")).toEqual(["close 1", "close 2", "close 3"]);
    expect(server.stderr()).not.toMatch(/closed twice|used when/);
  });
});

test("and with middleware in front, or two retries", async () => {
  const words = [passingFilter(), "--filter=retry", passingFilter(), "--filter=retry-request"];
  const own = ["retry-delay=1ms", "retry-request-delay=1ms"];
  const server = await start([...words, disk(""), ...own]);
  const client = await RawClient.open(server.socket);
  expect(await client.request(read)).toBe(0);
  expect(await client.read(512)).toEqual(Buffer.alloc(512, 3));
  client.socket.end();
  await server.stop();
  expect(lines(server, "close")).toEqual(["close 1", "close 2", "close 3"]);
});

test("requests in flight and later ones are all answered correctly", async () => {
  const server = await start([...retrying, disk("")]);
  const client = await RawClient.open(server.socket);
  const count = 200;
  for (let i = 0; i < count; i++) client.sendRequest({ ...read, cookie: BigInt(i) });
  for (let i = 0; i < count; i++) {
    const { error } = await client.readReply();
    expect(error).toBe(0);
    expect((await client.read(512))[0]).toBe(3);
  }
  client.socket.end();
  await server.stop();
  expect(lines(server, "open")).toHaveLength(3);
});

test("with retry-readonly it is opened read-only", async () => {
  const server = await start([...retrying, "retry-readonly=true", disk("")]);
  const client = await RawClient.open(server.socket);
  expect(await client.request(write)).toBe(ERRNO.EPERM);
  expect(await client.request(read)).toBe(0);
  await client.read(512);
  client.socket.end();
  await server.stop();
  expect(lines(server, "open")).toEqual(["open false", "open true", "open true"]);
});

/** Its second opening never ends. */
const HANGS = `open: () => (++opened === 2 ? new Promise(() => console.error("hangs")) : opened),`;

test.each(["the client leaves", "the server stops"])(
  "an opening that hangs ends when %s, and other clients are served",
  async (end) => {
    const server = await start([...retrying, disk(HANGS)]);
    const client = await RawClient.open(server.socket);
    client.sendRequest(read);
    await eventually("the hanging", () => server.stderr().includes("hangs") || undefined);
    const other = await RawClient.open(server.socket);
    expect(await other.request(write)).toBe(0);
    other.socket.end();
    if (end === "the client leaves") {
      client.socket.destroy();
      await eventually("close", () => lines(server, "close").length === 2 || undefined);
    }
    const begun = Date.now();
    server.kill("SIGTERM");
    if (end === "the server stops") expect((await client.readReply()).error).toBe(ERRNO.EIO);
    expect(Date.now() - begun).toBeLessThan(2000);
    client.socket.end();
    await server.ended;
    expect(Date.now() - begun).toBeLessThan(8000);
  },
);

test("waiting ends at once when the server stops", async () => {
  const server = await start(["--filter=retry", disk(""), "retry-delay=1000"]);
  const client = await RawClient.open(server.socket);
  client.sendRequest(read);
  await eventually("the failure", () => server.stderr().includes("not yet") || undefined);
  server.kill("SIGTERM");
  expect((await client.readReply()).error).toBe(ERRNO.EIO);
  client.socket.end();
  expect((await server.ended).status).toBe(0);
});

/** Fails its first read, whatever its thread model. */
const flaky = (model: string): string => `#!/bin/bash
case $1 in
  get_size) echo 1M ;;
  thread_model) echo ${model} ;;
  pread) [ -e failed ] || { touch failed; echo EIO broken >&2; exit 1; }
    head -c $3 /dev/zero ;;
  open) echo open >> opens ;;
  close) echo close >> opens ;;
  *) exit 2 ;;
esac
`;

test.each(["parallel", "serialize_requests", "serialize_all_requests", "serialize_connections"])(
  "a plugin in C, %s",
  async (model) => {
    for (const filters of [
      ["--filter=retry"],
      ["--filter=offset", "--filter=retry", "--filter=error"],
      ["--filter=blocksize", "--filter=retry", "--filter=cacheextents"],
      ["--filter=retry", passingFilter()],
      [passingFilter(), "--filter=retry"],
    ]) {
      const directory = temporaryDirectory();
      const script = join(directory, "plugin");
      writeFileSync(script, flaky(model).replace("case", `cd ${directory}\ncase`), { mode: 0o755 });
      const words = [...filters, debianPlugin("sh"), script, "retry-delay=1ms"];
      const server = await start(words);
      const client = await RawClient.open(server.socket);
      expect(await client.request(read)).toBe(0);
      expect(await client.read(512)).toEqual(Buffer.alloc(512));
      client.socket.end();
      await server.stop();
    }
  },
);

test("an asynchronous plugin, behind errors at random", async () => {
  const words = ["--filter=retry", "--filter=error", testPlugin("async-ramdisk"), "size=1M"];
  const own = ["retries=50", "retry-delay=1ms", "retry-exponential=no", "error-rate=20%"];
  const server = await start([...words, ...own]);
  const client = await RawClient.open(server.socket);
  for (let i = 0; i < 300; i++) client.sendRequest({ ...read, cookie: BigInt(i) });
  for (let i = 0; i < 300; i++) {
    expect((await client.readReply()).error).toBe(0);
    await client.read(512);
  }
  client.socket.end();
  await server.stop();
});

test("a failed opening is tried again", async () => {
  const directory = temporaryDirectory();
  const script = join(directory, "plugin");
  writeFileSync(
    script,
    `#!/bin/bash
cd ${directory}
case $1 in
  get_size) echo 1M ;;
  open) echo x >> opens; [ $(wc -l < opens) -gt 2 ] || { echo EIO not yet >&2; exit 1; } ;;
  *) exit 2 ;;
esac
`,
    { mode: 0o755 },
  );
  for (const own of [retrying, ["--filter=retry-request", "retry-request-delay=1ms"]]) {
    const server = await start([...own, debianPlugin("sh"), script]);
    const client = await RawClient.connect(server.socket);
    expect((await client.go()).sizeBytes).toBe(1n << 20n);
    client.socket.end();
    await server.stop();
  }
});
