// What a plugin in TypeScript may call its metadata contexts.

import { expect, test } from "vitest";
import { checkContexts } from "../../src/plugins/script/contexts.js";

const status = () => [];

test("names and bits are checked", () => {
  expect(() => checkContexts(undefined, "p")).not.toThrow();
  expect(() =>
    checkContexts({ "x-a:b": { status }, "qemu:d:e": { status, bits: 64 } }, "p"),
  ).not.toThrow();
  for (const name of ["", "plain", ":leaf", "x-a:", "base:mine"])
    expect(() => checkContexts({ [name]: { status } }, "p")).toThrow(`"${name}"`);
  const odd = { "x-a:b": { status, bits: 33 as 32 } };
  expect(() => checkContexts(odd, "p")).toThrow("needs status()");
  const many = Array.from({ length: 64 }, (_, i) => [`x-a:${i}`, { status }] as const);
  expect(() => checkContexts(Object.fromEntries(many), "p")).toThrow("more than 63");
});
