// Plugins by nbdkit-async.hpp: each request is answered once, whatever becomes of its object, and
// nothing that is thrown gets past a callback. cxxasync.cpp answers by where a request is.

import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { run, runOk } from "../support/command.js";
import { MIB } from "../support/fixtures.js";
import { CMD, ERRNO, FLAG } from "../support/protocol.js";
import { RawClient } from "../support/raw-client.js";
import {
  clean,
  eventually,
  type RunningServer,
  runAsyncnbd,
  sanitizer,
  startServer,
  temporaryDirectory,
  testPlugin,
} from "../support/server.js";
import { StrictClient } from "../support/strict-client.js";

const include = fileURLToPath(new URL("../../native/include", import.meta.url));

const { READ, WRITE, FLUSH, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS } = CMD;
const { FUA } = FLAG;
const { EIO, ENOMEM, ENOSPC } = ERRNO;

/** In the order of the plugin's regions. */
const WAYS = [
  ...["inline", "later", "fromMemory", "lentFunction", "lentOwner", "dropInline", "dropLater"],
  ...["throwSystem", "throwMemory", "throwRuntime", "throwNumber", "throwAfterAnswer"],
  ...["throwAfterMoving", "answerTwice", "failLater", "failException", "reversed", "late"],
  ...["assignOverOne", "throwReported", "throwByQueue", "throwForeign", "fromNothing"],
] as const;
const REGION = 64 << 10;
const at = (way: (typeof WAYS)[number]): bigint => BigInt(WAYS.indexOf(way) * REGION);

const start = (...words: string[]): Promise<RunningServer> =>
  startServer([testPlugin("cxxasync"), ...words], { options: ["-v"] });

/** A server of the plugin, and a client of it. */
async function open(): Promise<{ server: RunningServer; client: RawClient }> {
  const server = await start();
  return { server, client: await RawClient.open(server.socket) };
}

const counts = (stderr: string): number[] => {
  const found =
    /cxxasync: (\d+) accepted, (\d+) refused, (\d+) released, (\d+) open/.exec(stderr) ?? [];
  return found.slice(1).map(Number);
};

/** The error and the first byte. */
async function read(
  client: RawClient,
  offset: bigint,
  count = 512,
): Promise<[error: number, byte?: number | undefined]> {
  const error = await client.request({ type: READ, offset, length: count });
  return error === 0 ? [0, (await client.read(count))[0]] : [error];
}

const write = (client: RawClient, offset: bigint, byte: number, flags = 0): Promise<number> =>
  client.request({ type: WRITE, offset, flags, payload: Buffer.alloc(512, byte) });

describe("a request", () => {
  test.each([
    "inline",
    "later",
    "fromMemory",
    "lentFunction",
    "lentOwner",
    "throwAfterAnswer",
    "throwAfterMoving",
    "answerTwice",
    "fromNothing",
  ] as const)("that is answered %s succeeds once", async (way) => {
    const { server, client } = await open();
    for (let byte = 1; byte <= 50; byte++) {
      expect(await write(client, at(way), byte)).toBe(0);
      expect(await read(client, at(way))).toEqual([0, byte]);
      // A second answer would come in place of this one.
      expect(await read(client, at("inline"), 4096)).toEqual([0, way === "inline" ? byte : 0]);
    }
    client.socket.end();
    const [accepted, refused] = counts((await server.stop()).stderr);
    expect(accepted).toBe(150);
    expect(refused).toBe({ answerTwice: 200, fromNothing: 100 }[way as string] ?? 0);
  });

  test.each([
    ["dropInline", EIO, "dropped without an answer"],
    ["dropLater", EIO, "dropped without an answer"],
    ["throwSystem", ENOSPC, "thrown: No space left on device"],
    ["throwMemory", ENOMEM, "out of memory"],
    ["throwRuntime", EIO, "100% wrong: %s%n"],
    ["throwNumber", EIO, "an exception that is no std::exception"],
    ["failLater", ENOSPC, ""],
    ["failException", ENOMEM, "out of memory"],
    ["throwReported", ENOSPC, ""],
    ["throwByQueue", ENOSPC, "No space left on device"],
    ["throwForeign", EIO, "No associated state"],
  ] as const)("that ends by %s gives the client error %i", async (way, error, words) => {
    const { server, client } = await open();
    for (let i = 0; i < 50; i++) {
      expect(await read(client, at(way))).toEqual([error]);
      expect(await write(client, at(way), 1)).toBe(error);
      expect(await read(client, at("inline"))).toEqual([0, 0]);
    }
    client.socket.end();
    const { stderr } = await server.stop();
    expect(stderr).toContain(words);
    if (words === "") expect(stderr).not.toMatch(/error: (read|write): /); // besides the server's
  });

  test("is answered before another request is assigned to its object", async () => {
    const { server, client } = await open();
    client.sendRequest({ type: READ, offset: at("assignOverOne"), length: 512, cookie: 1n });
    client.sendRequest({ type: READ, offset: at("assignOverOne"), length: 512, cookie: 2n });
    expect(await client.readReply()).toEqual({ error: EIO, cookie: 1n });
    expect(await client.readReply()).toEqual({ error: 0, cookie: 2n });
    await client.read(512);
    client.socket.end();
    await server.stop();
  });

  test("may be answered before earlier ones", async () => {
    const { server, client } = await open();
    for (let i = 0; i < 16; i++)
      client.sendRequest({ type: READ, offset: at("reversed"), length: 512, cookie: BigInt(i) });
    for (let i = 15; i >= 0; i--) {
      expect(await client.readReply()).toEqual({ error: 0, cookie: BigInt(i) });
      await client.read(512);
    }
    client.socket.end();
    await server.stop();
  });

  test("of a client that has gone can be answered without harm", async () => {
    const server = await startServer([testPlugin("cxxasync")], { options: ["--grace=300ms"] });
    const gone = await RawClient.open(server.socket);
    for (let i = 0; i < 20; i++) gone.sendRequest({ type: READ, offset: at("late"), length: 4096 });
    expect(await read(gone, at("inline"))).toEqual([0, 0]);
    gone.socket.destroy();
    await eventually("the end of the client's requests", () =>
      server.stderr().includes("the plugin did not") ? true : undefined,
    );
    const stays = await RawClient.open(server.socket);
    expect(await write(stays, at("late"), 1)).toBe(0); // which has the plugin answer the others
    expect(await read(stays, at("inline"))).toEqual([0, 0]);
    stays.socket.end();
    expect(counts((await server.stop()).stderr).slice(0, 2)).toEqual([3, 20]);
  });

  test("lends memory until it is given back, even if its clients are killed", async () => {
    const server = await start();
    const ways = ["lentFunction", "lentOwner"] as const;
    for (let round = 0; round < 10; round++) {
      const client = await RawClient.open(server.socket);
      for (let i = 0; i < 200; i++)
        client.sendRequest({ type: READ, offset: at(ways[i % 2]!), length: REGION });
      await client.read(100_000);
      client.socket.destroy();
    }
    const [accepted = 0, refused = 0, released, open] = counts((await server.stop()).stderr);
    expect(accepted).toBeGreaterThan(0);
    expect(released).toBe(accepted + refused);
    expect(open).toBe(0);
  });
});

test("flags, extents and all operations reach the plugin", async () => {
  const server = await start();
  const client = await StrictClient.connect(server.socket, {
    style: "structured",
    contexts: ["base:allocation"],
  });
  const later = at("later");
  const replies = await client.requests(
    { type: WRITE, offset: later, payload: Buffer.alloc(512, 9), flags: FUA },
    { type: FLUSH },
    { type: TRIM, offset: later, length: 4096, flags: FUA },
    { type: CACHE, offset: later, length: 8192 },
    { type: READ, offset: later, length: 512 },
  );
  expect(replies.map(({ error }) => error)).toEqual([0, 0, 0, 0, 0]);
  expect(replies[4]?.data?.[511]).toBe(9);
  // fail(ENOTSUP): zeroes are written instead; a fast zero has no other way.
  const zero = { type: WRITE_ZEROES, offset: later, length: 512 };
  const [slow, fast] = await client.requests(zero, { ...zero, flags: FLAG.FAST_ZERO });
  expect([slow?.error, fast?.error]).toEqual([0, ERRNO.ENOTSUP]);
  const [zeroed] = await client.requests({ type: READ, offset: later, length: 512 });
  expect(zeroed?.data?.every((byte) => byte === 0)).toBe(true);

  const range = { type: BLOCK_STATUS, offset: 1024n, length: 3 * 4096 };
  const [all, one] = await client.requests(range, { ...range, flags: FLAG.REQ_ONE });
  const id = client.contexts.get("base:allocation") as number;
  expect(all?.statuses.get(id)?.slice(0, 3)).toEqual([
    [3072n, 0n],
    [4096n, 3n],
    [4096n, 0n],
  ]);
  expect(one?.statuses.get(id)).toEqual([[3072n, 0n]]);
  await client.disconnect();
  const { stderr } = await server.stop();
  for (const words of [
    "write with FUA",
    "flushed",
    "trimmed 4096 at 65536 fua=1",
    "cached 8192",
    "zero fast=1 trim=1 fua=0",
  ])
    expect(stderr).toContain(words);
});

test("clients and commands see what the class says of itself and its exports", async () => {
  const help = await runAsyncnbd([testPlugin("cxxasync"), "--help"]);
  expect(help.stdout).toContain("throw-in=<MEMBER>");
  const dump = await runAsyncnbd([testPlugin("cxxasync"), "--dump-plugin"]);
  for (const line of ["name=cxxasync", "version=1.2.3", "thread_model=async", "threads=1"])
    expect(dump.stdout).toContain(`${line}\n`);
  const server = await start();
  const info = await runOk(["nbdinfo", server.uri]);
  expect(info).toContain("description: opened as one");
  expect(info).toContain("block_size_preferred: 4096");
  for (const can of ["can_multi_conn", "can_fast_zero", "can_fua", "can_cache", "is_rotational"])
    expect(info).toContain(`${can}: true`);
  const list = await runOk(["nbdinfo", "--list", "--json", server.uri]);
  const { exports } = JSON.parse(list) as { exports: { "export-name": string }[] };
  expect(exports.map((one) => one["export-name"])).toEqual(["one", "two"]);
  await server.stop();
});

describe("an exception thrown in", () => {
  test.each(["config", "config_complete", "thread_model", "get_ready", "after_fork"])(
    "%s stops the start with its message",
    async (member) => {
      const words = ["-U", "-", testPlugin("cxxasync"), `throw-in=${member}`, "--run", "true"];
      const { status, stderr } = await runAsyncnbd(words);
      expect(status).toBe(1);
      expect(stderr).toContain(`${member}: thrown in ${member}: No space left on device`);
    },
  );

  test("an unknown parameter stops the start", async () => {
    const { status, stderr } = await runAsyncnbd([testPlugin("cxxasync"), "nosuch=1", "--run", ""]);
    expect(status).toBe(1);
    expect(stderr).toContain('unknown parameter "nosuch"');
  });

  test.each([
    ...["preconnect", "open", "default_export", "get_size", "can_write", "can_zero"],
    ...["can_fast_zero", "can_trim", "can_fua", "can_flush", "is_rotational", "can_multi_conn"],
    ...["can_cache", "can_extents"],
  ])("%s affects one client, and the server goes on", async (member) => {
    const server = await start(`throw-in=${member}`);
    for (let i = 0; i < 3; i++)
      await expect(RawClient.open(server.socket)).rejects.toThrow(/refused|closed/);
    const { stderr } = await server.stop();
    expect(stderr).toContain(`${member}: thrown in ${member}: No space left on device`);
    expect(counts(stderr)[3]).toBe(0);
  });

  test.each([
    "export_description",
    "block_size",
    "list_exports",
    "extents",
    "drained",
    "cleanup",
    "dump_plugin",
  ])("%s breaks nothing else", async (member) => {
    const plugin = [testPlugin("cxxasync"), `throw-in=${member}`];
    const server = await startServer(plugin);
    await run(["nbdinfo", "--list", server.uri]);
    await run(["nbdinfo", "--map", server.uri]);
    const client = await RawClient.open(server.socket);
    expect(await read(client, at("inline"))).toEqual([0, 0]);
    client.socket.end();
    const { stderr } = await server.stop();
    const dump = await runAsyncnbd([...plugin, "--dump-plugin"]);
    expect(dump.status).toBe(0);
    expect(stderr + dump.stderr).toContain(`thrown in ${member}`);
  });
});

// A compiler cannot be had with a sanitizer's library in it.
describe.skipIf(sanitizer !== undefined)("a class", () => {
  const compile = (text: string, ...options: string[]) => {
    const output = join(temporaryDirectory(), "plugin.so");
    const command = ["g++", "-std=c++17", "-fPIC", "-shared", "-I", include, "-o", output];
    const input = `#include <nbdkit-async.hpp>\n#include <algorithm>\n${text}`;
    const words = [...command, ...options, "-x", "c++", "-"];
    return run(words, { input }).then((finished) => ({ ...finished, output }));
  };
  const disk = (body: string): string => `
    class Disk {
    public:
      uint64_t get_size() { return 1 << 20; }
      ${body}
    };
    NBDKIT_ASYNC_PLUGIN(Disk, "disk")`;
  const reads = `void read(nbdkit::ReadRequest request) {
    std::fill(request.buffer().begin(), request.buffer().end(), uint8_t{7});
    std::move(request).done();
  }`;

  test.each([
    ["g++", "c++17"],
    ["g++", "c++20"],
    ["g++", "c++23"],
    ["clang++-14", "c++17"],
    ["clang++-14", "c++20"],
    ["clang++-14", "c++2b"],
  ])("with any members compiles by %s as %s without a warning", async (compiler, standard) => {
    const warnings = ["-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Werror"];
    for (const source of ["test/plugins/cxxasync.cpp", "examples/async-ramdisk.cpp"]) {
      const path = fileURLToPath(new URL(`../../${source}`, import.meta.url));
      const words = [compiler, `-std=${standard}`, ...warnings, "-fPIC", "-fsyntax-only"];
      await runOk([...words, "-I", include, path]);
    }
  });

  test("with two members is a disk", async () => {
    const { output, stderr } = await compile(disk(reads), "-Wall", "-Wextra", "-Werror");
    expect(stderr).toBe("");
    const io = clean('qemu-io -r -f raw -c "read -P 7 0 1M" "$uri"');
    const { stdout } = await runAsyncnbd([output, "--run", io]);
    expect(stdout).toContain("read 1048576/1048576 bytes");
  });

  test.each([
    ["answers by name", "void read(nbdkit::ReadRequest request) { request.done(); }", "done"],
    [
      "copies a request",
      "void read(nbdkit::ReadRequest request) { nbdkit::ReadRequest other = request; }",
      "deleted",
    ],
    ["has no read", "", "an export must have read"],
    ["takes another's request", `${reads} void write(nbdkit::ReadRequest) {}`, "WriteRequest"],
    [
      "keeps an operation private",
      `${reads} private: void flush(nbdkit::FlushRequest) {}`,
      "private",
    ],
    [
      "answers a question by text",
      `${reads} std::string can_write() { return "no"; }`,
      "can_write",
    ],
  ])("that %s does not compile", async (_what, body, words) => {
    const { status, stderr } = await compile(disk(body));
    expect(status).not.toBe(0);
    expect(stderr).toContain(words);
  });
});

test("a large disk of the example is copied there and back", async () => {
  const server = await startServer([testPlugin("async-ramdisk"), "size=32M"]);
  const io = ["qemu-io", "-f", "raw", "-c", "write -P 9 0 32M", "-c", "read -P 9 1M 31M"];
  expect(await runOk([...io, server.uri])).toContain(`read ${31 * MIB}/${31 * MIB} bytes`);
  await server.stop();
});
