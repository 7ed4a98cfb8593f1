// The protocol's numbers are written down twice, in TypeScript and in C++: they must agree.

import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
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

test("the header for plugins and --dump-config claim the same version of nbdkit", () => {
  const header = new URL("../../native/include/nbdkit-version.h", import.meta.url);
  const text = readFileSync(header, "utf8");
  const number = (part: string) => new RegExp(`VERSION_${part} (\\d+)`).exec(text)?.[1];
  expect(["MAJOR", "MINOR", "MICRO"].map(number).join(".")).toBe(NBDKIT_VERSION);
  expect(text).toContain(`NBDKIT_VERSION_STRING "${NBDKIT_VERSION}"`);
});
