// The protocol's numbers are written down in TypeScript, in C++ and, for benchmarks, again: they must
// agree, with each other and with what the kernel and libnbd have.

import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import * as benchmarks from "../../bench/support/nbd.mjs";
import * as typescript from "../../src/protocol.js";
import { NBDKIT_VERSION } from "../../src/version.js";

function cppConstants(): Map<string, number> {
  const text = readFileSync(new URL("../../native/wire/constants.hpp", import.meta.url), "utf8");
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

test("the header for plugins and --dump-config claim the same version of nbdkit", () => {
  const header = new URL("../../native/include/nbdkit-version.h", import.meta.url);
  const text = readFileSync(header, "utf8");
  const number = (part: string) => new RegExp(`VERSION_${part} (\\d+)`).exec(text)?.[1];
  expect(["MAJOR", "MINOR", "MICRO"].map(number).join(".")).toBe(NBDKIT_VERSION);
  expect(text).toContain(`NBDKIT_VERSION_STRING "${NBDKIT_VERSION}"`);
});
