// The same raw requests for nbdkit and asyncnbd: the same errors, and the same disk afterwards.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { RawClient, type RequestFields } from "../support/raw-client.js";
import {
  asyncnbd,
  debianPlugin,
  nbdkit,
  type RunningServer,
  startServer,
  temporaryDirectory,
  testPlugin,
} from "../support/server.js";
import { REQUEST_DIFFERENCES, ZERO_BY_WRITING } from "./allow-list.js";

const SIZE = 1 << 20;
const BIG = 128 << 20;

const COMMANDS: [string, number][] = [
  ["read", 0],
  ["write", 1],
  ["flush", 3],
  ["trim", 4],
  ["cache", 5],
  ["write zeroes", 6],
  ["block status", 7],
  ["command 9", 9],
];

const RANGES: [string, bigint, number][] = [
  ["some", 4096n, 4096],
  ["unaligned", 5001n, 777],
  ["all", 0n, SIZE],
  ["nothing", 0n, 0],
  ["past the end", BigInt(SIZE) - 1n, 2],
  ["at the end", BigInt(SIZE), 1],
  ["far beyond", 1n << 40n, 512],
  ["overflowing", 2n ** 64n - 1n, 512],
];

const FLAGS: [string, number][] = [
  ["no flag", 0],
  ["FUA", 1],
  ["NO_HOLE", 2],
  ["DF", 4],
  ["REQ_ONE", 8],
  ["FAST_ZERO", 16],
  ["an unknown flag", 1 << 9],
  ["FUA|NO_HOLE|FAST_ZERO", 19],
];

/** Every command on every range without flags, and with every flag on one range. */
function allRequests(): [string, RequestFields][] {
  return COMMANDS.flatMap(([command, type]) => {
    const requestOf = (what: string, offset: bigint, length: number, flags: number) => {
      const payload = type === 1 ? { payload: Buffer.alloc(length, 1 + (length % 250)) } : {};
      const title = `${command} ${what}`;
      return [title, { type, offset, length, flags, ...payload }] as [string, RequestFields];
    };
    return [
      ...RANGES.map(([what, offset, length]) => requestOf(what, offset, length, 0)),
      ...FLAGS.map(([what, flags]) => requestOf(`with ${what}`, 8192n, 1000, flags)),
      ...FLAGS.map(([what, flags]) => requestOf(`of nothing with ${what}`, 0n, 0, flags)),
      ...FLAGS.map(([what, flags]) =>
        requestOf(`beyond the end with ${what}`, BigInt(SIZE), 9, flags),
      ),
    ];
  });
}

/** The errors of requests sent one after the other, by title. */
async function errorsOf(
  client: RawClient,
  requests: readonly [string, RequestFields][],
): Promise<[string, number][]> {
  const errors: [string, number][] = [];
  for (const [title, fields] of requests) {
    const error = await client.request({ ...fields, cookie: 7n });
    if (fields.type === 0 && error === 0) await client.read(fields.length as number);
    errors.push([title, error]);
  }
  return errors;
}

async function contents(client: RawClient): Promise<Buffer> {
  client.sendRequest({ type: 0, length: SIZE });
  expect((await client.readReply()).error).toBe(0);
  return client.read(SIZE);
}

async function connect(server: RunningServer): Promise<RawClient> {
  const client = await RawClient.connect(server.socket);
  await client.go();
  return client;
}

/** Lets nbdkit go first: it does not bear clients that vanish. */
async function disconnect(client: RawClient): Promise<void> {
  client.sendRequest({ type: 2 });
  await client.closed();
}

describe.each([
  ["writable", []],
  ["read-only", ["-r"]],
])("on a %s export", (_name, options) => {
  test.each([
    ["nbdkit's memory", [debianPlugin("memory"), String(SIZE)]],
    ["our memory", [testPlugin("memory"), String(SIZE)]],
    ["nbdkit's null", [debianPlugin("null"), String(SIZE)]],
    ["a version 1 plugin", [testPlugin("version1")]],
    ["a plugin without zero and cache", [testPlugin("probe")]],
    ["nbdkit's pattern", [debianPlugin("pattern"), String(SIZE)]],
  ])("all requests to %s have the same errors and effects", async (_plugin, plugin) => {
    const outcomes = [];
    for (const command of [nbdkit, asyncnbd]) {
      const server = await startServer(plugin, { command, options });
      const client = await connect(server);
      const errors = await errorsOf(client, allRequests());
      outcomes.push({ errors, disk: await contents(client) });
      await disconnect(client);
      await server.stop();
    }
    const [theirs, ours] = outcomes;
    expect(ours?.errors).toEqual(theirs?.errors);
    expect(theirs && ours?.disk.equals(theirs.disk)).toBe(true);
  });
});

test("requests that are too large differ as the allow-list says", async () => {
  const length = (64 << 20) + 1;
  const requests: [string, RequestFields][] = [
    ["read of 64 MiB + 1", { type: 0, length }],
    ["write of 64 MiB + 1", { type: 1, payload: Buffer.alloc(length) }],
  ];
  for (const [name, command] of [
    ["nbdkit", nbdkit],
    ["asyncnbd", asyncnbd],
  ] as const) {
    const server = await startServer([debianPlugin("memory"), String(BIG)], { command });
    const client = await connect(server);
    for (const [title, error] of await errorsOf(client, requests))
      expect([name, title, error]).toEqual([name, title, REQUEST_DIFFERENCES[title]?.[name]]);
    await disconnect(client);
    await server.stop();
  }
});

test("zeroing by writing above 64 MiB differs as the allow-list says", async () => {
  const MIB = 1 << 20;
  const offsetsMib: Record<string, number[]> = {};
  for (const [name, command] of [
    ["nbdkit", nbdkit],
    ["asyncnbd", asyncnbd],
  ] as const) {
    const directory = temporaryDirectory();
    const [script, log] = [join(directory, "disk.sh"), join(directory, "log")];
    const answers = `get_size) echo 200M ;; can_write|can_zero) exit 0 ;; pread) exit 0 ;;
      zero) echo ENOTSUP not here >&2; exit 1 ;;
      pwrite) echo "$4" >> ${log}; cat > /dev/null ;; *) exit 2 ;;`;
    writeFileSync(script, `case "$1" in ${answers} esac`, { mode: 0o755 });
    const server = await startServer([debianPlugin("sh"), script], { command });
    const client = await connect(server);
    const fields = { type: 6, offset: BigInt(MIB), length: 150 * MIB };
    expect(await client.request(fields)).toBe(0);
    await disconnect(client);
    await server.stop();
    offsetsMib[name] = readFileSync(log, "utf8")
      .trim()
      .split("\n")
      .map((o) => Number(o) / MIB);
  }
  const { nbdkit: theirs, asyncnbd: ours } = ZERO_BY_WRITING;
  expect(offsetsMib).toEqual({ nbdkit: theirs, asyncnbd: ours });
});

test("transmission flags are the same but for structured replies", async () => {
  const SEND_DF = 1 << 7;
  for (const plugin of ["memory", "null", "pattern"]) {
    const flags: number[] = [];
    for (const command of [nbdkit, asyncnbd]) {
      const server = await startServer([debianPlugin(plugin), "1M"], { command });
      const client = await RawClient.connect(server.socket);
      flags.push((await client.go()).flags & ~SEND_DF);
      await disconnect(client);
      await server.stop();
    }
    expect([plugin, flags[1]]).toEqual([plugin, flags[0]]);
  }
});
