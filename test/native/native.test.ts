// Runs the C++ unit tests, which scripts/build-variant has built, each program as one test.

import { readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { run } from "../support/command.js";
import { variantDirectory } from "../support/server.js";

const programs = readdirSync(variantDirectory).filter((file) => file.endsWith("_test"));

describe("native", () => {
  test("unit tests have been built", () => {
    expect(programs.length).toBeGreaterThan(5);
  });

  test.each(programs)("%s", async (program) => {
    const { status, stdout, stderr } = await run([join(variantDirectory, program)]);
    expect(status, stdout + stderr).toBe(0);
  });
});
