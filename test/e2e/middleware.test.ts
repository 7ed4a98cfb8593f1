// Middleware around a plugin, with a client in front of both.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { runOk } from "../support/command.js";
import { MIB } from "../support/fixtures.js";
import { CMD, ERRNO } from "../support/protocol.js";
import { RawClient } from "../support/raw-client.js";
import { eventually, runAsyncnbd, startServer, temporaryDirectory } from "../support/server.js";

/** A disk that fails its first two reads, behind the middleware; and a client past its handshake. */
async function start(middleware: string) {
  const path = join(temporaryDirectory(), "disk.ts");
  writeFileSync(
    path,
    `import { definePlugin, failure } from "asyncnbd";
     import { delay, error, log, rate, readonly, retry } from "asyncnbd/middleware";
     let reads = 0;
     const disk = definePlugin({
       name: "disk",
       config: { byte: { type: "integer", default: 6 } },
       getSize: () => ${MIB},
       async pread(_h, buf) {
         if (reads++ < 2) throw failure("EIO", "not yet");
         buf.fill(this.config.byte);
       },
       async pwrite() {},
     });
     export default ${middleware};`,
  );
  const server = await startServer([path, "byte=7"]);
  const client = await RawClient.open(server.socket);
  const read = () => client.request({ type: CMD.READ, offset: 0n, length: 512 });
  const write = () =>
    client.request({ type: CMD.WRITE, offset: 0n, length: 512, payload: Buffer.alloc(512) });
  return { server, client, read, write };
}

test("retry hides transient failures, and this.config is the plugin's", async () => {
  const { server, client, read } = await start("retry({ delayMs: 1 })(disk)");
  expect(await read()).toBe(0);
  expect(await client.read(512)).toEqual(Buffer.alloc(512, 7));
  await server.stop();
});

test("retry gives up in the end", async () => {
  const { server, read } = await start("retry({ retries: 1, delayMs: 1 })(disk)");
  expect(await read()).toBe(5);
  await server.stop();
});

test("error fails the chosen requests", async () => {
  const { server, read, write } = await start(
    'error({ code: "ENOSPC", requests: ["pwrite"] })(retry({ delayMs: 1 })(disk))',
  );
  expect(await write()).toBe(28);
  expect(await read()).toBe(0);
  await server.stop();
});

test("readonly", async () => {
  const { server } = await start("readonly()(disk)");
  expect(await runOk(["nbdinfo", "--no-content", server.uri])).toContain("is_read_only: true");
  await server.stop();
});

test("log writes each request and its result", async () => {
  const file = join(temporaryDirectory(), "log");
  const { server, read, write } = await start(`log({ file: "${file}" })(disk)`);
  expect(await read()).toBe(5);
  expect(await write()).toBe(0);
  await server.stop();
  expect(readFileSync(file, "utf8").replace(/^\S+ \S+ /gm, "")).toBe(`Ready thread_model=3
connection=1 Connect export="" tls=0 size=0x100000 minsize=0x0 prefsize=0x0 maxsize=0x0 write=1 \
flush=0 rotational=0 trim=0 zero=1 fua=0 extents=0 cache=0 fast_zero=1
connection=1 Read id=1 offset=0x0 count=0x200 ...
connection=1 ...Read id=1 return=-1 error=EIO
connection=1 Write id=2 offset=0x0 count=0x200 fua=0 ...
connection=1 ...Write id=2 return=0
connection=1 Disconnect transactions=2
`);
});

test("delay and rate let requests through, later", async () => {
  const { server, write } = await start("delay({ writeMs: 30 })(rate(10_000, 512)(disk))");
  const begun = performance.now();
  for (let i = 0; i < 3; i++) expect(await write()).toBe(0); // two of them above the allowance
  expect(performance.now() - begun).toBeGreaterThan(90);
  await server.stop();
});

test("stats counts what clients do, and can be looked at", async () => {
  const path = join(temporaryDirectory(), "stats.ts");
  writeFileSync(
    path,
    `import { definePlugin, failure } from "asyncnbd";
     import { error, stats } from "asyncnbd/middleware";
     const counted = stats();
     export default counted(error({ requests: ["pwrite"] })(definePlugin({
       name: "disk",
       getSize: () => ${MIB},
       async pread(_h, buf) { buf.fill(1); },
       async pwrite() {},
       close() { console.error(JSON.stringify(counted.snapshot())); },
     })));`,
  );
  const server = await startServer([path]);
  const client = await RawClient.open(server.socket);
  for (let i = 0; i < 3; i++) {
    expect(await client.request({ type: CMD.READ, offset: 0n, length: 512 })).toBe(0);
    await client.read(512);
  }
  const payload = Buffer.alloc(512);
  expect(await client.request({ type: CMD.WRITE, offset: 0n, length: 512, payload })).toBe(
    ERRNO.EIO,
  );
  client.socket.destroy();
  const words = await eventually("the snapshot", () => /^\{.*\}$/m.exec(server.stderr())?.[0]);
  const { pread, pwrite, ...others } = JSON.parse(words);
  expect(pread).toMatchObject({ requests: 3, failures: 0, bytes: 1536 });
  expect(pread.meanMs).toBeGreaterThan(0);
  expect(pread.p50Ms).toBeLessThanOrEqual(pread.p99Ms);
  expect(pread.p99Ms).toBeLessThanOrEqual(pread.maxMs);
  expect(pwrite).toMatchObject({ requests: 1, failures: 1, bytes: 0 });
  expect(others).toEqual({});
  await server.stop();
});

test.each([
  ["log", "file", "new URL('file:///tmp/x')"],
  ["log", "file", "process"],
  ["offset", "offset", "-4096n"],
  ["fua", "mode", "{}"],
])("a value that an option of %s cannot have is an error: %s: %s", async (name, key, value) => {
  const path = join(temporaryDirectory(), "wrong.ts");
  writeFileSync(
    path,
    `import { definePlugin } from "asyncnbd";
     import { ${name} } from "asyncnbd/middleware";
     export default ${name}({ ${key}: ${value} } as never)(definePlugin({
       name: "disk", getSize: () => ${MIB}, pread() {},
     }));`,
  );
  const { status, stderr } = await runAsyncnbd([path, "--run", "true"]);
  expect(status).toBe(1);
  expect(stderr).toContain(
    `filter ${name}, option ${key}: expected a number, a boolean or a string\n`,
  );
});
