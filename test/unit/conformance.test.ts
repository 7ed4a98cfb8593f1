// docs/conformance.md is what test/conformance/rules.ts says, and every test named there exists.
// `npm run conformance` writes it.

import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { render, sections } from "../conformance/rules.js";

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
const page = here("../../docs/conformance.md");

const rules = sections.flatMap(({ rules }) => rules);

test("each rule has a test or a reason why not", () => {
  for (const { rule, tests = [], why } of rules)
    expect(tests.length > 0 || why !== undefined, rule).toBe(true);
});

test("each test that is named exists", () => {
  const missing = rules
    .flatMap(({ tests = [] }) => tests)
    .filter((one) => {
      const [file = "", ...words] = one.split(": ");
      return !readFileSync(here(`../${file}`), "utf8").includes(words.join(": "));
    });
  expect(missing).toEqual([]);
});

test("the page is up to date", () => {
  if (process.env.WRITE_CONFORMANCE === "1") writeFileSync(page, render());
  expect(readFileSync(page, "utf8")).toBe(render());
});
