// The filter openonce, in front of plugins in C and in TypeScript: how often they are opened and closed,
// and what their clients see.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { CMD, ERRNO } from "../support/protocol.js";
import { RawClient } from "../support/raw-client.js";
import {
  debianFilter,
  eventually,
  LEAKS_AT_EXIT,
  runAsyncnbd,
  startServer,
  temporaryDirectory,
  testPlugin,
} from "../support/server.js";

const { READ, WRITE, FLUSH } = CMD;

/** A module with a disk that says when it is opened and closed. */
function diskModule(front = "disk"): string {
  const path = join(temporaryDirectory(), "disk.ts");
  writeFileSync(
    path,
    `import { definePlugin } from "asyncnbd";
     import * as filters from "asyncnbd/middleware";
     const bytes = Buffer.alloc(65536);
     let isBroken = process.env.IS_BROKEN === "1";
     const disk = definePlugin({
       name: "disk",
       listExports: () => ["", "b"],
       open({ exportName }) {
         console.error("call: open " + exportName);
         if (isBroken) {
           isBroken = false;
           throw new Error("broken");
         }
         return {};
       },
       close() { console.error("call: close"); },
       getSize: () => bytes.length,
       pread(_h, buf, offset) { bytes.copy(buf, 0, offset); },
       pwrite(_h, buf, offset) { buf.copy(bytes, offset); },
       flush() {},
       cleanup() { console.error("call: cleanup"); },
     });
     export default ${front};`,
  );
  return path;
}

const filterModule = (): string => {
  const path = join(temporaryDirectory(), "own.ts");
  writeFileSync(
    path,
    `import { wrapRequests } from "asyncnbd/middleware";
     export default wrapRequests("own", (call) => call.next());`,
  );
  return `--filter=${path}`;
};

const callsIn = (stderr: string): string[] =>
  [...stderr.matchAll(/^call: (.*)$/gm)].map(([, call]) => call as string);

/** What a client has written, as another sees it which stays when the first has left. */
async function useTwice(socket: string): Promise<Buffer> {
  const [first, second] = [await RawClient.open(socket), await RawClient.open(socket)];
  const payload = Buffer.alloc(512, 7);
  expect(await first.request({ type: WRITE, offset: 512n, payload })).toBe(0);
  first.socket.end();
  await first.closed();
  expect(await second.request({ type: READ, offset: 512n, length: 512 })).toBe(0);
  const read = await second.read(512);
  second.socket.end();
  await second.closed();
  return read;
}

describe("in front of a plugin in TypeScript", () => {
  test.each([
    ["on the command line", () => ["--filter=openonce", diskModule()]],
    ["behind a native filter", () => ["--filter=cow", "--filter=openonce", diskModule()]],
    ["in front of a native filter", () => ["--filter=openonce", "--filter=cow", diskModule()]],
    ["behind middleware", () => [filterModule(), "--filter=openonce", diskModule()]],
    ["in front of middleware", () => ["--filter=openonce", filterModule(), diskModule()]],
    ["made by a module", () => [diskModule("filters.openonce()(disk)")]],
  ] satisfies [string, () => readonly string[]][])(
    "%s, an export is opened once and closed before the plugin's cleanup",
    async (_place, args) => {
      const server = await startServer(args());
      expect(await useTwice(server.socket)).toEqual(Buffer.alloc(512, 7));
      const { stderr } = await server.stop();
      expect(callsIn(stderr)).toEqual(["open ", "close", "cleanup"]);
    },
  );

  test("each name is opened once, and a failed opening is tried again", async () => {
    const env = { IS_BROKEN: "1" };
    const server = await startServer(["--filter=openonce", diskModule()], { env });
    await expect(RawClient.open(server.socket)).rejects.toThrow("NBD_OPT_GO was refused");
    for (const name of ["", "b", "", "b"]) await RawClient.open(server.socket, name);
    const { stderr } = await server.stop();
    expect(callsIn(stderr)).toEqual(["open ", "open ", "open b", "close", "close", "cleanup"]);
  });

  test.each([
    ["", () => []],
    ["behind middleware, ", () => [filterModule()]],
  ] satisfies [string, () => string[]][])(
    "%san opening that hangs costs only its client, and the next one tries again",
    async (_, front) => {
      const path = join(temporaryDirectory(), "hanging.ts");
      writeFileSync(
        path,
        `let opened = 0;
         export default {
           name: "hanging",
           open() { console.error("call: open"); return opened++ === 0 ? new Promise(() => {}) : {}; },
           getSize: () => 4096,
           pread() {},
         };`,
      );
      const args = [...front(), "--filter=openonce", "--timeout=2", path];
      const server = await startServer(args);
      const first = expect(RawClient.open(server.socket)).rejects.toThrow();
      await eventually("its opening", () => callsIn(server.stderr()).length > 0 || undefined);
      await new Promise((resolve) => setTimeout(resolve, 500)); // or the second has no time left
      const second = await RawClient.open(server.socket);
      expect(await second.request({ type: READ, offset: 0n, length: 512 })).toBe(0);
      await first;
      const { stderr } = await server.stop();
      expect(callsIn(stderr)).toEqual(["open", "open"]);
      expect(stderr).toContain("refused: the handshake took longer than 2 s");
    },
  );

  test("a filter behind it may reopen after its first client has left", async () => {
    const words = ["retry-delay=10ms", "fails=2"];
    const path = join(temporaryDirectory(), "failing.ts");
    writeFileSync(
      path,
      `let left = 2;
       export default {
         name: "failing",
         config: { fails: { type: "integer", default: 0 } },
         open() { console.error("call: open"); return {}; },
         close() { console.error("call: close"); },
         getSize: () => 4096,
         pread() { if (left-- > 0) throw new Error("worn out"); },
       };`,
    );
    const server = await startServer(["--filter=openonce", "--filter=retry", path, ...words]);
    const first = await RawClient.open(server.socket);
    first.socket.end();
    await first.closed();
    const second = await RawClient.open(server.socket);
    expect(await second.request({ type: READ, offset: 0n, length: 512 })).toBe(0);
    const { stderr } = await server.stop();
    const anew = ["close", "open"];
    expect(callsIn(stderr)).toEqual(["open", ...anew, ...anew, "close"]);
  });

  test("worker threads are refused, since each has a plugin of its own", async () => {
    const args = ["--filter=openonce", "-U", "-", "--workers=2", diskModule(), "--run", "true"];
    const { status, stderr } = await runAsyncnbd(args);
    expect(status).toBe(1);
    expect(stderr).toContain("filter openonce: each worker has a plugin of its own");
  });
});

describe("in front of a plugin in C", () => {
  const logged = (log: string): string[] =>
    readFileSync(log, "utf8")
      .split("\n")
      .filter((line) => /^(open|close|cleanup|get_size)/.test(line));

  test.each([
    ["by itself", ["--filter=openonce"]],
    ["behind nbdkit's own filters", [`--filter=${debianFilter("nocache")}`, "--filter=openonce"]],
    ["in front of them", ["--filter=openonce", `--filter=${debianFilter("nocache")}`]],
  ])(
    "%s, an export is opened once and closed before the plugin's cleanup",
    async (_place, args) => {
      const log = join(temporaryDirectory(), "log");
      const server = await startServer([...args, testPlugin("calllog"), `log=${log}`]);
      await useTwice(server.socket);
      await RawClient.open(server.socket);
      expect(logged(log)).toEqual([
        "open readonly=0 name=the-default is_tls=0",
        "get_size the-default",
      ]);
      await server.stop();
      const all = [
        "open readonly=0 name=the-default is_tls=0",
        "get_size the-default",
        "close the-default",
        "cleanup",
      ];
      expect(logged(log)).toEqual(all);
    },
  );

  test("middleware may be in front of it", async () => {
    const log = join(temporaryDirectory(), "log");
    const chain = [filterModule(), "--filter=openonce"];
    const server = await startServer([...chain, testPlugin("calllog"), `log=${log}`]);
    await useTwice(server.socket);
    await server.stop();
    expect(logged(log).filter((line) => !line.startsWith("get_size"))).toEqual([
      "open readonly=0 name=the-default is_tls=0",
      "close the-default",
      "cleanup",
    ]);
  });

  test("behind it middleware sees no client, as a plugin does", async () => {
    const words = ["-v", "--filter=openonce", filterModule(), testPlugin("wornout")];
    const server = await startServer(words);
    for (let i = 0; i < 2; i++) {
      const client = await RawClient.open(server.socket);
      expect(await client.request({ type: READ, offset: 524288n, length: 512 })).toBe(ERRNO.EIO);
      client.socket.end();
      await client.closed();
    }
    const { stderr } = await server.stop();
    expect(stderr.match(/wornout\[\d+\]: error: worn out/g)).toEqual(
      Array(2).fill("wornout[0]: error: worn out"),
    );
  });

  test("a request that is never answered is given up only for its client", async () => {
    const log = join(temporaryDirectory(), "log");
    const never = 10n * 65536n;
    const probe = [testPlugin("asyncprobe"), `log=${log}`];
    const server = await startServer(["--filter=openonce", "--grace=1", ...probe], {
      env: LEAKS_AT_EXIT,
    });
    const [first, second] = [
      await RawClient.open(server.socket),
      await RawClient.open(server.socket),
    ];
    first.sendRequest({ type: READ, offset: never, length: 512 });
    second.sendRequest({ type: READ, offset: never, length: 512, cookie: 1n });
    expect(await second.request({ type: FLUSH, cookie: 2n })).toBe(0);
    first.socket.end();
    await first.closed(); // given up
    expect(await second.request({ type: FLUSH, cookie: 3n })).toBe(0);
    server.kill("SIGTERM");
    const { status } = await server.ended;
    expect(status).toBe(1); // the plugin may still reply
    expect(readFileSync(log, "utf8").match(/^close/gm)).toHaveLength(1);
  });
});
