// The same raw requests for nbdkit and asyncnbd: the same errors, data, disks and callbacks.

import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { MIB, patternBytes, writePattern } from "../support/fixtures.js";
import { CMD, EXPORT_FLAG, FLAG } from "../support/protocol.js";
import { encodeRequest, RawClient, type RequestFields } from "../support/raw-client.js";
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

/** Plugins that ship with asyncnbd, in the build that users get. */
const shippedPlugin = (name: string): string =>
  fileURLToPath(new URL(`../../build/Release/nbdkit-${name}-plugin.so`, import.meta.url));

const SIZE = MIB;
const { FAST_ZERO } = FLAG;
const { SEND_FAST_ZERO } = EXPORT_FLAG;

const COMMANDS: [string, number][] = [
  ["read", 0],
  ["write", 1],
  ["flush", 3],
  ["trim", 4],
  ["cache", 5],
  ["write zeroes", 6],
  ["block status", 7],
  ["resize", 8],
  ["command 9", 9],
  ["command 65535", 65535],
];

const RANGES: [string, bigint, number][] = [
  ["some", 8192n, 4096],
  ["a byte", 20000n, 1],
  ["misaligned", 5001n, 777],
  ["the end", BigInt(SIZE) - 512n, 512],
  ["nothing at the start", 0n, 0],
  ["nothing inside", 4096n, 0],
  ["nothing at the end", BigInt(SIZE), 0],
  ["nothing beyond", BigInt(SIZE) + 1n, 0],
  ["past the end", BigInt(SIZE) - 1n, 2],
  ["at the end", BigInt(SIZE), 1],
  ["far beyond", 1n << 40n, 512],
  ["negative", 1n << 63n, 512],
  ["overflowing", 2n ** 64n - 1n, 512],
  ["overflowing to zero", 2n ** 64n - 512n, 512],
];

/** Too long for a payload: only for commands that carry none. */
const LONG_RANGES: [string, bigint, number][] = [
  ["more than there is", 0n, SIZE + 1],
  ["the longest", 0n, 0xffffffff],
  ["the longest, overflowing", 2n ** 64n - 2n, 0xffffffff],
];

const FLAGS: [string, number][] = [
  ["no flag", 0],
  ["FUA", 1],
  ["NO_HOLE", 2],
  ["DF", 4],
  ["REQ_ONE", 8],
  ["FAST_ZERO", FAST_ZERO],
  ["PAYLOAD_LEN", 32],
  ["an unknown flag", 1 << 9],
  ["all flags", 0xffff],
  ["FUA|NO_HOLE", 3],
  ["NO_HOLE|FAST_ZERO", 18],
  ["FUA|NO_HOLE|FAST_ZERO", 19],
];

type Request = [title: string, fields: RequestFields];

/** One command on every range with every flag. A write's bytes tell it from all others. */
function requestsOf(command: string, type: number): Request[] {
  const ranges = type <= 1 ? RANGES : [...RANGES, ...LONG_RANGES];
  return ranges.flatMap(([what, offset, length], range) =>
    FLAGS.map(([flag, flags], index): Request => {
      const payload = Buffer.alloc(type === CMD.WRITE ? length : 0, 1 + range * 16 + index);
      return [`${command} ${what}, ${flag}`, { type, offset, length, flags, payload }];
    }),
  );
}

/** A whole disk of bytes that are not zero, written before a command's requests. */
const FILL: Request = ["fill", { type: CMD.WRITE, payload: patternBytes(SIZE) }];

const digest = (data: Uint8Array): string => createHash("sha256").update(data).digest("hex");

/**
 * What requests sent all at once lead to: their NBD errors, or checksums of the data that was
 * read. Replies must come in order, so that the server must have one thread.
 */
async function outcomesOf(client: RawClient, requests: readonly Request[]): Promise<string[]> {
  const cookieOf = (index: number) => BigInt(index) + 7n;
  client.send(
    ...requests.flatMap(([, fields], index) => [
      encodeRequest({ ...fields, cookie: cookieOf(index) }),
      fields.payload ?? new Uint8Array(),
    ]),
  );
  const outcomes = [];
  for (const [index, [title, { type, length = 0 }]] of requests.entries()) {
    const { error, cookie } = await client.readReply();
    expect(cookie).toBe(cookieOf(index));
    const data = type === CMD.READ && error === 0 ? digest(await client.read(length)) : "";
    outcomes.push(`${title}: ${error} ${data}`);
  }
  return outcomes;
}

interface Connection {
  readonly client: RawClient;
  readonly flags: number; // of the transmission
}

async function connect(server: RunningServer): Promise<Connection> {
  const client = await RawClient.connect(server.socket);
  const { flags } = await client.go();
  return { client, flags };
}

/** Lets the server end the connection: nbdkit does not bear clients that vanish. */
async function disconnect(client: RawClient): Promise<void> {
  await client.leave();
}

/** What nbdkit does not survive: see the allow-list. */
const isDeadly = ({ type, flags = 0 }: RequestFields, exportFlags: number): boolean =>
  type === CMD.WRITE_ZEROES && (flags & FAST_ZERO) !== 0 && (exportFlags & SEND_FAST_ZERO) === 0;

/** The outcomes of all requests, and of every command the disk afterwards. */
async function allOutcomes({ client, flags }: Connection): Promise<string[]> {
  const outcomes = [];
  for (const [command, type] of COMMANDS) {
    const requests = requestsOf(command, type).filter(([, fields]) => !isDeadly(fields, flags));
    const whole: Request = [`the disk after ${command}`, { type: CMD.READ, length: SIZE }];
    outcomes.push(...(await outcomesOf(client, [FILL, ...requests, whole])));
  }
  return outcomes;
}

/** Does the same with nbdkit and with asyncnbd, each on a server of its own. */
async function withBoth<T>(
  plugin: () => readonly string[],
  options: readonly string[],
  use: (connection: Connection) => Promise<T>,
): Promise<{ nbdkit: T; asyncnbd: T }> {
  const [theirs, ours] = await Promise.all(
    [nbdkit, asyncnbd].map(async (command) => {
      const server = await startServer(plugin(), { command, options: ["-t", "1", ...options] });
      const connection = await connect(server);
      const result = await use(connection);
      await disconnect(connection.client);
      await server.stop();
      return result;
    }),
  );
  return { nbdkit: theirs as T, asyncnbd: ours as T };
}

/** A disk of its own for every server. */
function image(): string {
  const path = join(temporaryDirectory(), "disk.img");
  writePattern(path, SIZE);
  return path;
}

const failing = (callback: string, errno: number): string[] => [
  testPlugin("probe"),
  `fail=${callback}`,
  `fail-errno=${errno}`,
];

const PLUGINS: [string, () => string[]][] = [
  ["nbdkit's memory", () => [debianPlugin("memory"), String(SIZE)]],
  ["our memory", () => [shippedPlugin("memory"), String(SIZE)]],
  ["nbdkit's file", () => [debianPlugin("file"), image()]],
  ["our file", () => [shippedPlugin("file"), image()]],
  ["nbdkit's null", () => [debianPlugin("null"), String(SIZE)]],
  ["nbdkit's pattern", () => [debianPlugin("pattern"), String(SIZE)]],
  ["nbdkit's full", () => [debianPlugin("full"), String(SIZE)]],
  ["nbdkit's data", () => [debianPlugin("data"), "1 2 3", `size=${SIZE}`]],
  ["a version 1 plugin", () => [testPlugin("version1")]],
  ["a plugin without zero and cache", () => [testPlugin("probe")]],
];

/** Only for exports that can be written: on others the plugin would not be asked. */
const FAILING_PLUGINS: [string, () => string[]][] = [
  ["a plugin whose writes fail", () => [testPlugin("probe"), "fail=pwrite"]],
  ["a plugin whose writes fail with ENOSPC", () => failing("pwrite", 28)],
  ["a plugin whose writes fail with ESHUTDOWN", () => failing("pwrite", 108)],
  ["a plugin whose writes fail with EXDEV", () => failing("pwrite", 18)],
  ["a plugin whose trims fail with EOPNOTSUPP", () => failing("trim", 95)],
  ["a plugin whose flushes fail", () => [testPlugin("probe"), "fail=flush"]],
  ["a plugin whose reads fail with EROFS", () => failing("pread", 30)],
];

describe.each([
  ["writable", [], [...PLUGINS, ...FAILING_PLUGINS]],
  ["read-only", ["-r"], PLUGINS],
] as const)("on a %s export", (_name, options, plugins) => {
  test.each(plugins)("all requests to %s have the same errors and effects", async (_p, plugin) => {
    const outcomes = await withBoth(plugin, options, allOutcomes);
    expect(outcomes.asyncnbd).toEqual(outcomes.nbdkit);
  });
});

const LARGE: Request[] = [
  ["read of 64 MiB", { type: CMD.READ, length: 64 * MIB }],
  ["write of 64 MiB", { type: CMD.WRITE, payload: patternBytes(64 * MIB) }],
  ["trim of 128 MiB", { type: CMD.TRIM, length: 128 * MIB }],
  ["write zeroes of 128 MiB", { type: CMD.WRITE_ZEROES, length: 128 * MIB }],
  ["cache of 128 MiB", { type: CMD.CACHE, length: 128 * MIB }],
  ["trim of 128 MiB + 1", { type: CMD.TRIM, length: 128 * MIB + 1 }],
  [
    "write of 64 MiB past the end",
    { type: CMD.WRITE, payload: patternBytes(64 * MIB), offset: 1n << 40n },
  ],
];

test("requests up to 64 MiB, or longer without a payload, have the same errors", async () => {
  const plugin = () => [debianPlugin("memory"), String(128 * MIB)];
  const outcomes = await withBoth(plugin, [], ({ client }) => outcomesOf(client, LARGE));
  expect(outcomes.asyncnbd).toEqual(outcomes.nbdkit);
});

/** Of the error of a client whose server closes: that it does. */
const closing = ({ message }: Error): string | undefined => message.split(" after ")[0];

test.each([
  ["read of 64 MiB + 1", { type: CMD.READ, length: 64 * MIB + 1 }],
  ["write of 64 MiB + 1", { type: CMD.WRITE, payload: Buffer.alloc(64 * MIB + 1) }],
  ["write of 128 MiB + 1", { type: CMD.WRITE, payload: Buffer.alloc(128 * MIB + 1) }],
] as Request[])("a %s differs as the allow-list says", async (title, fields) => {
  const plugin = () => [debianPlugin("memory"), String(256 * MIB)];
  const outcomes = await withBoth(plugin, [], ({ client }) =>
    client.request(fields).catch(closing),
  );
  const { nbdkit: theirs, asyncnbd: ours } = REQUEST_DIFFERENCES[title] ?? {};
  expect(outcomes).toEqual({ nbdkit: theirs, asyncnbd: ours });
});

/** A script that notes the callbacks that requests lead to, and their arguments. */
function notingScript(answers: string): { plugin: string[]; notes: () => string[] } {
  const directory = temporaryDirectory();
  const [path, log] = [join(directory, "disk.sh"), join(directory, "log")];
  const text = `
    note() { callback=$1; shift 2; echo "$callback $*" >> ${log}; }
    case $1 in
      pread|flush|trim|zero|cache) note "$@" ;;
      pwrite) note "$@" "$(cksum)" ;;
    esac
    case $1 in
      ${answers}
      get_size) echo ${256 * MIB} ;;
      pread) head -c "$3" /dev/zero ;;
      pwrite|flush|trim|zero|cache|can_write|can_flush|can_trim|can_zero) exit 0 ;;
      *) exit 2 ;;
    esac`;
  writeFileSync(path, text, { mode: 0o755 });
  writeFileSync(log, "");
  const notes = () => readFileSync(log, "utf8").trim().split("\n");
  return { plugin: [debianPlugin("sh"), path], notes };
}

interface Noted {
  readonly errors: readonly string[];
  readonly callbacks: readonly string[];
}

/** The errors of requests to a noting script, and the callbacks they led to. */
async function callbacksOf(
  command: readonly string[],
  answers: string,
  requests: readonly Request[],
): Promise<Noted> {
  const { plugin, notes } = notingScript(answers);
  const server = await startServer(plugin, { command, options: ["-t", "1"] });
  const { client, flags } = await connect(server);
  const survivable = requests.filter(([, fields]) => !isDeadly(fields, flags));
  const errors = await outcomesOf(client, survivable);
  await disconnect(client);
  await server.stop();
  return { errors, callbacks: notes() };
}

const NOTED: Request[] = COMMANDS.filter(([, type]) => type <= 6).flatMap(([command, type]) =>
  FLAGS.filter(([, flags]) => flags < 32).map(([flag, flags]): Request => {
    const range = type === CMD.FLUSH ? { length: 0 } : { offset: 5001n, length: 150_000 };
    const payload = Buffer.alloc(type === CMD.WRITE ? range.length : 0, 1);
    return [`${command}, ${flag}`, { type, flags, ...range, payload }];
  }),
);

describe("requests lead to the same callbacks of a script", () => {
  test.each([
    ["that says nothing more", ""],
    ["with native FUA", "can_fua) echo native ;;"],
    ["with emulated FUA", "can_fua) echo emulate ;;"],
    ["without FUA", "can_fua) echo none ;;"],
    ["without flush", "can_flush) exit 3 ;;"],
    ["without trim", "can_trim) exit 3 ;;"],
    ["without zero", "can_zero) exit 3 ;;"],
    ["with fast zero", "can_fast_zero) exit 0 ;;"],
    ["without fast zero", "can_fast_zero) exit 3 ;;"],
    ["with native FUA and fast zero", "can_fua) echo native ;; can_fast_zero) exit 0 ;;"],
    ["with native cache", "can_cache) echo native ;;"],
    ["with emulated cache", "can_cache) echo emulate ;;"],
    ["without cache", "can_cache) echo none ;;"],
    ["that cannot write", "can_write) exit 3 ;;"],
    ["whose zero is not supported", "zero) echo ENOTSUP no >&2; exit 1 ;;"],
    [
      "whose zero is not supported, but fast",
      "can_fast_zero) exit 0 ;; zero) echo ENOTSUP no >&2; exit 1 ;;",
    ],
    ["whose zero is EOPNOTSUPP", "zero) echo EOPNOTSUPP no >&2; exit 1 ;;"],
    ["whose zero fails", "zero) echo EIO no >&2; exit 1 ;;"],
    ["whose zero is missing", "zero) exit 2 ;;"],
    ["whose flush fails", "can_fua) echo emulate ;; flush) echo EIO no >&2; exit 1 ;;"],
    ["whose trim fails", "trim) echo EPERM no >&2; exit 1 ;;"],
    ["whose write fails without a word", "pwrite) exit 1 ;;"],
    ["with block sizes", "block_size) echo 512 4096 65536 ;;"],
  ])("%s", async (_name, answers) => {
    const [theirs, ours] = await Promise.all(
      [nbdkit, asyncnbd].map((command) => callbacksOf(command, answers, NOTED)),
    );
    expect(ours).toEqual(theirs);
  });
});

test("zeroing by writing above 64 MiB differs as the allow-list says", async () => {
  const request: Request = [
    "zero",
    { type: CMD.WRITE_ZEROES, offset: BigInt(MIB), length: 150 * MIB },
  ];
  const answers = "zero) echo ENOTSUP not here >&2; exit 1 ;;";
  const offsetsMib = await Promise.all(
    [nbdkit, asyncnbd].map(async (command) => {
      const { callbacks } = await callbacksOf(command, answers, [request]);
      const writes = callbacks.filter((line) => line.startsWith("pwrite"));
      return writes.map((line) => Number(line.split(" ")[2]) / MIB);
    }),
  );
  expect(offsetsMib).toEqual([ZERO_BY_WRITING.nbdkit, ZERO_BY_WRITING.asyncnbd]);
});

test("a fast zero that was not offered differs as the allow-list says", async () => {
  const fields = { type: CMD.WRITE_ZEROES, flags: FAST_ZERO, length: 512 };
  const outcomes: Record<string, unknown> = {};
  for (const [name, command] of Object.entries({ nbdkit, asyncnbd })) {
    const server = await startServer(notingScript("").plugin, { command });
    const { client, flags } = await connect(server);
    expect(isDeadly(fields, flags)).toBe(true);
    outcomes[name] = await client.request(fields).catch(closing);
  }
  const { nbdkit: theirs, asyncnbd: ours } = REQUEST_DIFFERENCES["fast zero, not offered"] ?? {};
  expect(outcomes).toEqual({ nbdkit: theirs, asyncnbd: ours });
});
