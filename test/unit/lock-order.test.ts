// The order of locks is written down for the compiler and for people: the two must agree.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const root = fileURLToPath(new URL("../../", import.meta.url));
const read = (file: string): string => readFileSync(join(root, file), "utf8");

function ranks(): string[] {
  const list = read("native/base/lock_ranks.inc");
  return [...list.matchAll(/^RANK\((\w+)\)/gm)].map((m) => m[1] as string);
}

/** Rank and file of each line of the documentation's table. */
function documented(): Array<[rank: string, file: string]> {
  const text = read("docs/architecture.md").split("## Order of locks")[1] ?? "";
  return [...text.matchAll(/^\| `(\w+)` \|[^|]*\((\S+)\) \|/gm)].map((m) => [
    m[1] as string,
    m[2] as string,
  ]);
}

const sources = readdirSync(join(root, "native"), { recursive: true, encoding: "utf8" }).filter(
  (file) => /\.[ch]pp$/.test(file) && !file.startsWith("plugins/"),
);

test("the table of locks in docs/architecture.md has the order that is checked", () => {
  expect(ranks().length).toBeGreaterThan(20);
  expect(documented().map(([rank]) => rank)).toEqual(ranks());
});

test("each lock is where that table says, and there is no other", () => {
  const found = sources.flatMap((file) =>
    [...read(join("native", file)).matchAll(/Mutex<(?:base::)?LockRank::(\w+)>/g)].map(
      (m) => `${m[1]} ${file}`,
    ),
  );
  expect(found.sort()).toEqual(
    documented()
      .map((line) => line.join(" "))
      .sort(),
  );
  const unordered = sources.filter((file) =>
    /std::(\w+_)?(mutex|condition_variable)\b/.test(read(join("native", file))),
  );
  expect(unordered).toEqual(["base/mutex.hpp"]);
});
