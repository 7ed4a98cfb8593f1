// A plugin in TypeScript on several threads.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { fourJobs, verifyByFio } from "../support/fio.js";
import { CMD } from "../support/protocol.js";
import { RawClient } from "../support/raw-client.js";
import { eventually, runAsyncnbd, startServer, temporaryDirectory } from "../support/server.js";

/** A disk of which each thread has a copy, full of the thread's number. */
function disk(more = ""): string {
  const path = join(temporaryDirectory(), "disk.ts");
  writeFileSync(
    path,
    `import { threadId } from "node:worker_threads";
     import { definePlugin } from "asyncnbd";
     const bytes = Buffer.alloc(1 << 20, threadId);
     export default definePlugin({
       name: "disk",
       config: { limit: { type: "integer", default: 0 } },
       getSize: () => bytes.length,
       pread: (_h, buf, offset) => { bytes.copy(buf, 0, offset); },
       async pwrite(_h, buf, offset) { buf.copy(bytes, offset); },
       getReady() { this.log.error("ready " + threadId + " limit " + this.config.limit); },
       cleanup() { this.log.error("cleanup " + threadId); },
       unload() { this.log.error("unload " + threadId); },
       ${more}
     });`,
  );
  return path;
}

async function threadOf(client: RawClient): Promise<number> {
  expect(await client.request({ type: CMD.READ, offset: 4096n, length: 1 })).toBe(0);
  return (await client.read(1))[0] as number;
}

test("clients go to the least busy thread, and each thread runs all steps", async () => {
  const server = await startServer([disk(), "limit=5"], { options: ["--workers=3"] });
  const first = await Promise.all([1, 2, 3].map(() => RawClient.open(server.socket)));
  const threads = await Promise.all(first.map(threadOf));
  expect(new Set(threads).size).toBe(3);
  const [leaver] = first as [RawClient];
  leaver.socket.destroy();
  // The place of the one that has left is filled first, as soon as its end has been noticed.
  await eventually("a client where one has left", async () => {
    const client = await RawClient.open(server.socket);
    const thread = await threadOf(client);
    client.socket.destroy();
    return thread === threads[0] ? true : undefined;
  });
  const { stderr } = await server.stop();
  for (const what of ["ready", "cleanup", "unload"])
    expect(stderr.match(new RegExp(`disk: ${what} \\d`, "g"))).toHaveLength(3);
  expect(stderr).toContain("ready 1 limit 5");
});

test("fio verifies four connections, with a filter in front", async () => {
  const server = await startServer(["--filter=stats", disk(), "statsfile=/dev/null"], {
    options: ["--workers=2"],
  });
  await verifyByFio(server, fourJobs("256k"));
  await server.stop();
});

test("requests in flight when the server stops are answered", async () => {
  const slow = "flush: () => new Promise((resolve) => setTimeout(resolve, 300)),";
  const server = await startServer([disk(slow)], { options: ["--workers=2"] });
  const clients = await Promise.all([1, 2].map(() => RawClient.open(server.socket)));
  for (const client of clients) client.sendRequest({ type: CMD.FLUSH, offset: 0n, length: 0 });
  for (const client of clients) expect(await threadOf(client)).toBeGreaterThan(0); // it has come
  const stopped = server.stop();
  for (const client of clients) expect((await client.readReply()).error).toBe(0);
  await stopped;
});

test("an uncaught exception ends the process, as on the main thread", async () => {
  const server = await startServer(
    [disk("close() { setImmediate(() => { throw new Error('oops'); }); },")],
    {
      options: ["--workers=2"],
    },
  );
  (await RawClient.open(server.socket)).socket.destroy();
  const { status, stderr } = await server.ended;
  expect(status).not.toBe(0);
  expect(stderr).toContain("oops");
});

test.each([
  [() => ["memory", "1M"], "memory is a C plugin and has threads of its own"],
  [() => [disk(), "limit=x"], "parameter limit=x: not a whole number"],
  [() => [disk("load() { throw new Error('no luck'); },")], "load: Error: no luck"],
  [() => ["/nonexistent.ts"], "cannot open plugin /nonexistent.ts"],
])("%# is refused with the reason", async (args, words) => {
  const { status, stderr } = await runAsyncnbd([
    "--workers=2",
    "-U",
    "-",
    ...args(),
    "--run",
    "true",
  ]);
  expect(status).toBe(1);
  expect(stderr).toContain(words);
});

test("--help and --dump-plugin need no threads", async () => {
  const path = disk();
  expect((await runAsyncnbd(["--workers=2", path, "--help"])).stdout).toContain("limit=N");
  expect((await runAsyncnbd(["--workers=2", path, "--dump-plugin"])).stdout).toContain("name=disk");
});
