// The faults that show what the simulation finds fit the sources as they are.

import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { FAULTS } from "../native/simulation/faults.mjs";

test("each fault to plant has one place in its source", () => {
  expect(FAULTS.length).toBeGreaterThan(10);
  for (const { name, file, from, to } of FAULTS) {
    const source = readFileSync(new URL(`../../native/${file}`, import.meta.url), "utf8");
    expect([name, source.split(from).length - 1]).toEqual([name, 1]);
    expect(to).not.toBe(from);
  }
});
