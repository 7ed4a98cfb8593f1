// --filter: the middleware in front of plugins in C and in TypeScript.

import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { runOk } from "../support/command.js";
import { passingFilter } from "../support/passing-filter.js";
import { CMD, ERRNO } from "../support/protocol.js";
import { RawClient } from "../support/raw-client.js";
import {
  debianPlugin,
  eventually,
  runAsyncnbd,
  startServer,
  temporaryDirectory,
  testPlugin,
} from "../support/server.js";

const KIB = 1024;
const MIB = 1024 * KIB;

function scriptFile(name: string, text: string): string {
  const path = join(temporaryDirectory(), name);
  writeFileSync(path, text);
  return path;
}

const read = (offset: number, length = 512) => ({ type: CMD.READ, offset: BigInt(offset), length });

const write = (offset: number, byte: number, length = 512, flags = 0) => ({
  type: CMD.WRITE,
  flags,
  offset: BigInt(offset),
  length,
  payload: Buffer.alloc(length, byte),
});

describe("cow", () => {
  test("leaves the disk unchanged, and all clients see writes", async () => {
    const disk = scriptFile("disk", "x".repeat(200_000));
    const server = await startServer(["--filter=cow", "file", disk]);
    const [one, other] = await Promise.all([
      RawClient.open(server.socket),
      RawClient.open(server.socket),
    ]);
    expect(await one.request(write(70_000, 7, 100_000))).toBe(0);
    expect(await other.request(read(69_999, 100_002))).toBe(0);
    const expected = Buffer.concat([Buffer.from("x"), Buffer.alloc(100_000, 7), Buffer.from("x")]);
    expect(await other.read(100_002)).toEqual(expected);
    await server.stop();
    expect(readFileSync(disk, "latin1")).toBe("x".repeat(200_000));
  });

  test("makes a read-only plugin writable", async () => {
    const server = await startServer(["--filter=cow", "null", "1M"]);
    const info = await runOk(["nbdinfo", server.uri]);
    expect(info).toContain("is_read_only: false");
    expect(info).toContain("can_multi_conn: true");
    await server.stop();
  });
});

describe("cache", () => {
  /** A disk that says on stderr what reaches it. */
  const disk = `
    import { definePlugin } from "asyncnbd";
    const bytes = Buffer.alloc(${MIB});
    export default definePlugin({
      name: "disk",
      getSize: () => bytes.length,
      pread(_h, buf, offset) {
        this.log.error("read " + buf.length + " at " + offset);
        bytes.copy(buf, 0, offset);
      },
      pwrite(_h, buf, offset, { fua }) {
        this.log.error("write " + buf.length + " at " + offset + (fua ? " fua" : ""));
        buf.copy(bytes, offset);
      },
      flush() { this.log.error("flush"); },
      canFua: () => "native",
    });`;

  async function start(...parameters: string[]) {
    const path = scriptFile("disk.ts", disk);
    const server = await startServer(["--filter=cache", path, ...parameters]);
    const client = await RawClient.open(server.socket);
    /** It has logged just that, as soon as it has come through the pipe. */
    const expectLogged = async (...expected: string[]): Promise<void> => {
      const logged = () => [...server.stderr().matchAll(/disk: (.*)/g)].map(([, what]) => what);
      await eventually("its lines", () => logged().length >= expected.length || undefined);
      expect(logged()).toEqual(expected);
    };
    return { server, client, expectLogged };
  }

  test("reads a block once", async () => {
    const { server, client, expectLogged } = await start("cache-on-read=true");
    for (const offset of [0, 512, 0, 65_000]) {
      expect(await client.request(read(offset))).toBe(0);
      await client.read(512);
    }
    await expectLogged("read 65536 at 0");
    await server.stop();
  });

  test("writes back at a flush, and at once with FUA", async () => {
    const { server, client, expectLogged } = await start();
    expect(await client.request(write(0, 1, 65_536))).toBe(0);
    await expectLogged();
    expect(await client.request({ type: CMD.FLUSH, offset: 0n, length: 0 })).toBe(0);
    await expectLogged("write 65536 at 0", "flush");
    expect(await client.request(write(131_072, 1, 512, 1))).toBe(0);
    await expectLogged(
      ...["write 65536 at 0", "flush", "read 65536 at 131072", "write 65536 at 131072 fua"],
    );
    await server.stop();
  });

  test("writes back a past client's data at another's flush, and not at the end", async () => {
    const { server, client, expectLogged } = await start();
    expect(await client.request(write(0, 1, 65_536))).toBe(0);
    client.socket.destroy();
    await client.closed();
    const other = await RawClient.open(server.socket);
    expect(await other.request(write(65_536, 1, 65_536))).toBe(0);
    expect(await other.request({ type: CMD.FLUSH, offset: 0n, length: 0 })).toBe(0);
    expect(await other.request(write(0, 2, 65_536))).toBe(0);
    await server.stop();
    await expectLogged("write 131072 at 0", "flush");
  });

  test("writes blocks back before it drops them", async () => {
    const { server, client } = await start(
      "cache-max-size=1M",
      "cache-high-threshold=25",
      "cache=unsafe",
      "cache-low-threshold=20",
    );
    for (let block = 0; block < 16; block++)
      expect(await client.request(write(block * 65_536, block + 1, 65_536))).toBe(0);
    for (let block = 0; block < 16; block++) {
      expect(await client.request(read(block * 65_536))).toBe(0);
      expect(await client.read(512)).toEqual(Buffer.alloc(512, block + 1));
    }
    await eventually("write-backs", () => server.stderr().includes("disk: write") || undefined);
    await server.stop();
  });

  test("fails flushes until the plugin can be written to again", async () => {
    const flag = join(temporaryDirectory(), "fail");
    const server = await startServer(
      ["--filter=cache", "--filter=error", "memory", "1M"].concat([
        "error-pwrite=ENOSPC",
        "error-pwrite-rate=1",
        `error-pwrite-file=${flag}`,
      ]),
    );
    writeFileSync(flag, "");
    const client = await RawClient.open(server.socket);
    expect(await client.request(write(0, 7, 512))).toBe(0);
    const flush = { type: CMD.FLUSH, offset: 0n, length: 0 };
    expect(await client.request(flush)).toBe(ERRNO.ENOSPC);
    expect(await client.request(flush)).toBe(ERRNO.ENOSPC);
    rmSync(flag);
    expect(await client.request(flush)).toBe(0);
    await server.stop();
  });
});

test("filters keep their order, and each takes its own parameters", async () => {
  const log = join(temporaryDirectory(), "log");
  const server = await startServer(
    ["--filter=error", "--filter=log", testPlugin("memory"), "1M"].concat(
      `logfile=${log}`,
      "error-pwrite=ENOSPC",
      "error-pwrite-rate=100%",
    ),
  );
  const client = await RawClient.open(server.socket);
  expect(await client.request(write(0, 1))).toBe(ERRNO.ENOSPC);
  expect(await client.request(read(0))).toBe(0);
  await client.read(512);
  await server.stop();
  const lines = readFileSync(log, "utf8");
  expect(lines).toMatch(
    /^\d{4}-\d\d-\d\d [\d:.]+ connection=1 Read id=1 offset=0x0 count=0x200 \.\.\.$/m,
  );
  expect(lines).not.toContain("Write"); // which did not come so far
});

test("a failing script of the log filter is logged, and no request fails", async () => {
  const server = await startServer(["--filter=log", "memory", "1M"].concat("logscript=exit 3"));
  const client = await RawClient.open(server.socket);
  expect(await client.request(write(0, 1))).toBe(0);
  const { stderr } = await server.stop();
  expect(stderr).toContain("memory[1]: error: logscript: command failed with exit code 3");
});

test("stats are written at the end", async () => {
  const file = join(temporaryDirectory(), "stats");
  const server = await startServer(["--filter=stats", "memory", "1M", `statsfile=${file}`]);
  const client = await RawClient.open(server.socket);
  for (let i = 0; i < 3; i++) expect(await client.request(write(0, 1))).toBe(0);
  await server.stop();
  expect(readFileSync(file, "utf8")).toMatch(
    /^total: 3 ops, [\d.]+ s, .*\nwrite: 3 ops, [\d.]+ s, .*\n {2}Request size and alignment/,
  );
});

test("error-file switches errors on and off", async () => {
  const flag = join(temporaryDirectory(), "fail");
  const server = await startServer(
    ["--filter=error", "memory", "1M"].concat("error-rate=1", `error-file=${flag}`),
  );
  const client = await RawClient.open(server.socket);
  expect(await client.request(write(0, 1))).toBe(0);
  writeFileSync(flag, "");
  expect(await client.request(write(0, 1))).toBe(ERRNO.EIO);
  await server.stop();
});

test("a module as a filter, with parameters", async () => {
  const path = scriptFile(
    "invert.ts",
    `import { defineFilter } from "asyncnbd";
     import { defineMiddleware } from "asyncnbd/middleware";
     export default defineFilter({
       name: "invert",
       config: { mask: { type: "integer", default: 255 } },
       create: ({ mask }) => defineMiddleware({
         name: "invert",
         async open(next, info) {
           const disk = await next(info);
           return {
             ...disk,
             async read(buf, offset, request) {
               await disk.read(buf, offset, request);
               for (let i = 0; i < buf.length; i++) buf[i] = (buf[i] as number) ^ mask;
             },
           };
         },
       }),
     });`,
  );
  const server = await startServer([`--filter=${path}`, debianPlugin("memory"), "1M", "mask=15"]);
  const client = await RawClient.open(server.socket);
  expect(await client.request(read(0))).toBe(0);
  expect(await client.read(512)).toEqual(Buffer.alloc(512, 15));
  await server.stop();
});

describe("a C plugin behind a filter", () => {
  const behind = (...args: string[]) =>
    startServer([passingFilter(), ...args].sort(optionsFirst), {
      options: ["--grace=0.3s"],
    });
  const optionsFirst = (a: string, b: string): number =>
    Number(b.startsWith("-")) - Number(a.startsWith("-")) ||
    Number(a.includes("=")) - Number(b.includes("="));

  const REGION = 64 * KIB;
  const WAYS = { inline: 0, later: 1, own: 2, lent: 3, twice: 4, fails: 7, errno: 9, never: 10 };

  test("has its exports, descriptions, sizes and flags passed through", async () => {
    const server = await behind(debianPlugin("partitioning"), scriptFile("p", "x".repeat(MIB)));
    const plain = await startServer([
      debianPlugin("partitioning"),
      scriptFile("p", "x".repeat(MIB)),
    ]);
    const info = async (uri: string) =>
      (await runOk(["nbdinfo", "--no-content", uri])).replaceAll(
        /uri: .*|contexts:[\s\S]*?\n(?=\t\w)/g,
        "",
      );
    expect(await info(server.uri)).toBe(await info(plain.uri));
    await Promise.all([server.stop(), plain.stop()]);
  });

  test("answers asynchronously in every way", async () => {
    const server = await behind(testPlugin("asyncprobe"), "size=1M");
    const client = await RawClient.open(server.socket);
    for (const way of [WAYS.inline, WAYS.later, WAYS.own, WAYS.lent, WAYS.twice]) {
      expect(await client.request(write(way * REGION, way + 1))).toBe(0);
      expect(await client.request(read(way * REGION))).toBe(0);
      expect(await client.read(512)).toEqual(Buffer.alloc(512, way + 1));
    }
    expect(await client.request(write(WAYS.fails * REGION, 1))).toBe(ERRNO.ENOSPC);
    expect(await client.request(read(WAYS.errno * REGION))).toBe(ERRNO.ENOSPC);
    await server.stop();
  });

  test("that never answers is given up, and the server ends", async () => {
    const server = await behind(testPlugin("asyncprobe"), "size=1M");
    const client = await RawClient.open(server.socket);
    client.sendRequest(write(WAYS.never * REGION, 1));
    expect(await client.request(read(0))).toBe(0);
    server.kill("SIGTERM");
    const { status, stderr } = await server.ended;
    expect(stderr).toMatch(/never|did not|no answer|no reply/i);
    expect([0, 1, 99]).toContain(status);
  });
});

test.each([
  [["--filter=nosuch", "memory", "1M"], 'there is no filter "nosuch": use '],
  [["--filter=cow", "memory", "1M", "cow-block-size=5000"], "cow-block-size=5000: must be a power"],
  [["--filter=cache", "memory", "1M", "cache-max-size=1K"], "cache-max-size=1K: the minimum is 1M"],
  [
    ["--filter=cache", "memory", "1M", "cache-max-size=1M", "cache-low-threshold=95"],
    "cache-low-threshold=95: must be less than cache-high-threshold, which is 95",
  ],
  [["--filter=delay", "memory", "1M", "rdelay=never"], "rdelay=never: not a time"],
  [["--filter=error", "memory", "1M", "error-rate=2"], "error-rate=2: use 0% to 100%"],
  [["--filter=rate", "memory", "1M", "rate=0"], "rate=0: expected a number of bits"],
  [["--filter=rate", "memory", "1M", "burstiness=x"], "burstiness=x: expected a number of seconds"],
  [
    ["--filter=log", "memory", "1M", "logfile=/nonexistent/log"],
    "logfile=/nonexistent/log: cannot",
  ],
  [
    [passingFilter(), "--filter=exportname", "memory", "1M"],
    "filter exportname: it needs to see clients before they open an export",
  ],
])("%j is refused with the reason", async (args, words) => {
  const { status, stderr } = await runAsyncnbd(["-U", "-", ...args, "--run", "true"]);
  expect(status).toBe(1);
  expect(stderr).toContain(words);
});

test("--help has the parameters of filters", async () => {
  const { stdout } = await runAsyncnbd(["--help", "--filter=cow", "memory"]);
  expect(stdout).toContain("cow-block-size=SIZE");
});
