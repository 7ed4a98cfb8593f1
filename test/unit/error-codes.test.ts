// Every code that an error can have stands in docs/errors.md, and every one that stands there exists.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const root = fileURLToPath(new URL("../../", import.meta.url));
const read = (file: string): string => readFileSync(join(root, file), "utf8");
const sources = readdirSync(join(root, "src"), { recursive: true, encoding: "utf8" })
  .filter((file) => file.endsWith(".ts"))
  .map((file) => join("src", file));

/** Members of a union of strings. */
function union(file: string, name: string): string[] {
  const [, members = ""] = new RegExp(`export type ${name} =([^;]*);`).exec(read(file)) ?? [];
  return [...members.matchAll(/\| "(\w+)"/g)].map(([, code]) => code as string);
}

/** Literal codes that the client's errors of no connection are made with, by a class of theirs too. */
const ofConnections = (): string[] =>
  sources
    .filter((file) => file.startsWith("src/client/"))
    .flatMap((file) => [...read(file).matchAll(/(?:new ConnectionError|super)\(\s*"(E\w+)"/g)])
    .map(([, code]) => code as string);

/** The first columns of the tables of a section. */
function tabled(heading: string): string[] {
  const [, section = ""] = read("docs/errors.md").split(`\n## ${heading}\n`);
  const lines = section.split("\n## ")[0]?.split("\n") ?? [];
  return lines.flatMap((line) => /^\| `(\w+)` \|/.exec(line)?.[1] ?? []).sort();
}

const OURS = union("src/errors.ts", "ErrorCode");

test("each code of the server and the commands is explained, and no other", () => {
  expect(OURS.length).toBeGreaterThan(20);
  expect(tabled("Of the server, its plugins and the commands")).toEqual([...OURS].sort());
});

test("each code of the server is used by some error", () => {
  const all = sources
    .filter((file) => file !== "src/errors.ts")
    .map(read)
    .join("\n");
  const inherited = ["USAGE"]; // UsageError's
  expect(OURS.filter((code) => !all.includes(`"${code}"`))).toEqual(inherited);
});

test("each code of the client is explained, and no other", () => {
  const codes = new Set([
    ...union("src/client/errors.ts", "RequestErrorCode"),
    ...union("src/client/errors.ts", "OptionErrorCode"),
    ...ofConnections(),
  ]);
  expect(codes.size).toBeGreaterThan(20);
  expect(tabled("Of the client")).toEqual([...codes].sort());
});
