// The protocol's numbers are written down in TypeScript, in C++ and, for benchmarks, again: they must
// agree, with each other and with what the kernel and libnbd have.

import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import * as benchmarks from "../../bench/support/nbd.mjs";
import * as typescript from "../../src/protocol.js";
import { NBDKIT_VERSION } from "../../src/version.js";

function cppConstants(): Map<string, number> {
  const text = ["commands", "constants"]
    .map((name) => readFileSync(new URL(`../../native/wire/${name}.hpp`, import.meta.url), "utf8"))
    .join("");
  const found = text.matchAll(/constexpr \w+ ((?:NBD|MAX)_\w+) = ([^;]+);/g);
  return new Map(
    [...found].map(([, name, value]) => {
      const terms = (value as string).replaceAll(/[u()]/g, "").split("+");
      const shifted = terms.map((term) => {
        const [number, shift] = term.split("<<").map(Number);
        return (number as number) * 2 ** (shift ?? 0);
      });
      return [name as string, shifted.reduce((sum, one) => sum + one)];
    }),
  );
}

test("constants that both languages define have the same value", () => {
  const cpp = cppConstants();
  const shared = Object.entries(typescript).filter(([name]) => cpp.has(name));
  expect(shared.length).toBeGreaterThan(10);
  for (const [name, value] of shared) expect([name, value]).toEqual([name, cpp.get(name)]);
});

const TABLE: Readonly<Record<string, unknown>> = typescript;

/** Names and numbers of a header's definitions and enumerators. */
function cConstants(path: string): [name: string, value: number][] {
  const text = readFileSync(path, "utf8");
  const found = text.matchAll(
    /^(?:#define\s+|\t)(NBD_\w+)\s+(?:= )?(0x[0-9a-f]+|\d+|\(1 << \d+\))/gm,
  );
  return [...found].map(([, name, value = ""]) => {
    const [number, shift] = value.replaceAll(/[()]/g, "").split("<<").map(Number);
    return [name as string, (number as number) * 2 ** (shift ?? 0)];
  });
}

/** As the specification has them (doc/proto.md of NetworkBlockDevice/nbd), copied by hand. */
const SPECIFIED: Readonly<Record<string, number | bigint>> = {
  NBD_REQUEST_MAGIC: 0x25609513,
  NBD_EXTENDED_REQUEST_MAGIC: 0x21e41c71,
  NBD_SIMPLE_REPLY_MAGIC: 0x67446698,
  NBD_STRUCTURED_REPLY_MAGIC: 0x668e33ef,
  NBD_EXTENDED_REPLY_MAGIC: 0x6e8a278c,
  NBD_REP_MAGIC: 0x3e889045565a9n,
  NBD_FLAG_FIXED_NEWSTYLE: 1,
  NBD_FLAG_NO_ZEROES: 2,
  NBD_FLAG_C_FIXED_NEWSTYLE: 1,
  NBD_FLAG_C_NO_ZEROES: 2,
  NBD_FLAG_HAS_FLAGS: 1,
  NBD_FLAG_READ_ONLY: 2,
  NBD_FLAG_SEND_FLUSH: 4,
  NBD_FLAG_SEND_FUA: 8,
  NBD_FLAG_ROTATIONAL: 16,
  NBD_FLAG_SEND_TRIM: 32,
  NBD_FLAG_SEND_WRITE_ZEROES: 64,
  NBD_FLAG_SEND_DF: 128,
  NBD_FLAG_CAN_MULTI_CONN: 256,
  NBD_FLAG_SEND_CACHE: 1024,
  NBD_FLAG_SEND_FAST_ZERO: 2048,
  NBD_FLAG_BLOCK_STATUS_PAYLOAD: 4096,
  NBD_OPT_EXPORT_NAME: 1,
  NBD_OPT_ABORT: 2,
  NBD_OPT_LIST: 3,
  NBD_OPT_STARTTLS: 5,
  NBD_OPT_INFO: 6,
  NBD_OPT_GO: 7,
  NBD_OPT_STRUCTURED_REPLY: 8,
  NBD_OPT_LIST_META_CONTEXT: 9,
  NBD_OPT_SET_META_CONTEXT: 10,
  NBD_OPT_EXTENDED_HEADERS: 11,
  NBD_REP_FLAG_ERROR: 2 ** 31,
  NBD_REP_ACK: 1,
  NBD_REP_SERVER: 2,
  NBD_REP_INFO: 3,
  NBD_REP_META_CONTEXT: 4,
  NBD_REP_ERR_UNSUP: 2 ** 31 + 1,
  NBD_REP_ERR_POLICY: 2 ** 31 + 2,
  NBD_REP_ERR_INVALID: 2 ** 31 + 3,
  NBD_REP_ERR_PLATFORM: 2 ** 31 + 4,
  NBD_REP_ERR_TLS_REQD: 2 ** 31 + 5,
  NBD_REP_ERR_UNKNOWN: 2 ** 31 + 6,
  NBD_REP_ERR_SHUTDOWN: 2 ** 31 + 7,
  NBD_REP_ERR_BLOCK_SIZE_REQD: 2 ** 31 + 8,
  NBD_REP_ERR_TOO_BIG: 2 ** 31 + 9,
  NBD_REP_ERR_EXT_HEADER_REQD: 2 ** 31 + 10,
  NBD_INFO_EXPORT: 0,
  NBD_INFO_NAME: 1,
  NBD_INFO_DESCRIPTION: 2,
  NBD_INFO_BLOCK_SIZE: 3,
  NBD_CMD_READ: 0,
  NBD_CMD_WRITE: 1,
  NBD_CMD_DISC: 2,
  NBD_CMD_FLUSH: 3,
  NBD_CMD_TRIM: 4,
  NBD_CMD_CACHE: 5,
  NBD_CMD_WRITE_ZEROES: 6,
  NBD_CMD_BLOCK_STATUS: 7,
  NBD_CMD_FLAG_FUA: 1,
  NBD_CMD_FLAG_NO_HOLE: 2,
  NBD_CMD_FLAG_DF: 4,
  NBD_CMD_FLAG_REQ_ONE: 8,
  NBD_CMD_FLAG_FAST_ZERO: 16,
  NBD_CMD_FLAG_PAYLOAD_LEN: 32,
  NBD_REPLY_FLAG_DONE: 1,
  NBD_REPLY_TYPE_NONE: 0,
  NBD_REPLY_TYPE_OFFSET_DATA: 1,
  NBD_REPLY_TYPE_OFFSET_HOLE: 2,
  NBD_REPLY_TYPE_BLOCK_STATUS: 5,
  NBD_REPLY_TYPE_BLOCK_STATUS_EXT: 6,
  NBD_REPLY_TYPE_ERROR: 2 ** 15 + 1,
  NBD_REPLY_TYPE_ERROR_OFFSET: 2 ** 15 + 2,
  NBD_STATE_HOLE: 1,
  NBD_STATE_ZERO: 2,
  NBD_EPERM: 1,
  NBD_EIO: 5,
  NBD_ENOMEM: 12,
  NBD_EINVAL: 22,
  NBD_ENOSPC: 28,
  NBD_EOVERFLOW: 75,
  NBD_ENOTSUP: 95,
  NBD_ESHUTDOWN: 108,
};

test("every constant has the value that the specification gives it", () => {
  expect(
    Object.fromEntries(Object.entries(TABLE).filter(([name]) => name.startsWith("NBD_"))),
  ).toEqual(SPECIFIED);
});

test("the kernel's header has the same numbers", () => {
  // The kernel's NBD_CMD_FLAG_FUA counts from the command's bits, before the flags.
  const shared = cConstants("/usr/include/linux/nbd.h").filter(
    ([name]) => name in TABLE && name !== "NBD_CMD_FLAG_FUA",
  );
  expect(shared.length).toBeGreaterThan(10);
  for (const [name, value] of shared) expect([name, TABLE[name]]).toEqual([name, value]);
});

test("libnbd has the same numbers", () => {
  const program =
    "import json, nbd; print(json.dumps({n: v for n, v in vars(nbd).items() if type(v) is int}))";
  const output = execFileSync("/usr/bin/python3", ["-c", program], { encoding: "utf8" });
  const libnbd = Object.entries(JSON.parse(output) as Record<string, number>);
  const shared = libnbd
    .map(([name, value]): [string, number] => [
      `NBD_${name.replace("HANDSHAKE_FLAG", "FLAG")}`,
      value,
    ])
    .filter(([name]) => name in TABLE);
  expect(shared.length).toBeGreaterThan(7);
  for (const [name, value] of shared) expect([name, TABLE[name]]).toEqual([name, value]);
});

test("the benchmarks' programs have the same numbers", () => {
  const numbers = Object.entries(benchmarks).filter(([, value]) => typeof value === "number");
  expect(numbers.length).toBeGreaterThan(4);
  for (const [name, number] of numbers) expect([name, number]).toEqual([name, TABLE[name]]);
});

test("the benchmarks' load generator, in C, has the same magic numbers", () => {
  const text = ["client", "connection"]
    .map((name) => readFileSync(new URL(`../../bench/load/${name}.c`, import.meta.url), "utf8"))
    .join();
  const magics = [...text.matchAll(/\b0x[0-9a-f]{8}\b/g)].map(([number]) => Number(number));
  const ours = Object.entries(TABLE).filter(([name]) => name.endsWith("_MAGIC"));
  expect(magics.length).toBeGreaterThanOrEqual(3);
  expect(ours.map(([, number]) => number)).toEqual(expect.arrayContaining(magics));
});

const LOAD_COMMANDS: Readonly<Record<string, string>> = {
  ...{ READ: "NBD_CMD_READ", WRITE: "NBD_CMD_WRITE", LEAVE: "NBD_CMD_DISC" },
  ...{ TRIM: "NBD_CMD_TRIM", ZERO: "NBD_CMD_WRITE_ZEROES" },
};

test("the benchmarks' load generator has the same commands and flags", () => {
  const text = ["connection.h", "connection.c"]
    .map((name) => readFileSync(new URL(`../../bench/load/${name}`, import.meta.url), "utf8"))
    .join();
  const commands = [...text.matchAll(/COMMAND_(\w+) = (\d+)/g)];
  expect(commands.map(([, name]) => name)).toEqual(Object.keys(LOAD_COMMANDS));
  for (const [, name, number] of commands)
    expect([name, TABLE[LOAD_COMMANDS[name as string] as string]]).toEqual([name, Number(number)]);
  const flags = [...text.matchAll(/#define (FLAG_SEND_\w+) \(1 << (\d+)\)/g)];
  expect(flags).toHaveLength(3);
  for (const [, name, bit] of flags)
    expect([name, TABLE[`NBD_${name}`]]).toEqual([name, 1 << Number(bit)]);
});

test("the header for plugins and --dump-config claim the same version of nbdkit", () => {
  const header = new URL("../../native/include/nbdkit-version.h", import.meta.url);
  const text = readFileSync(header, "utf8");
  const number = (part: string) => new RegExp(`VERSION_${part} (\\d+)`).exec(text)?.[1];
  expect(["MAJOR", "MINOR", "MICRO"].map(number).join(".")).toBe(NBDKIT_VERSION);
  expect(text).toContain(`NBDKIT_VERSION_STRING "${NBDKIT_VERSION}"`);
});
