// Which files in native/ read the environment, and why that is safe: a program's JavaScript may set
// a variable at any time, which is not safe while another thread reads one.

import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const native = fileURLToPath(new URL("../../native/", import.meta.url));

/** All on the thread that loads plugins, makes filters and configures both. */
const READERS: Readonly<Record<string, string>> = {
  "filters/shell.cpp": "a filter copies all when it is made",
  "host/library.cpp": "when a plugin is opened, for its own copy of the variable",
  "host/symbol_scope.cpp": "when a plugin is opened",
  "plugins/environment.hpp": "plugins copy all in config_complete",
  "plugins/rbd-cluster.cpp": "librados reads it, in config_complete",
  "store/temporary_file.cpp": "when a filter is made",
};

const READS = /\b(?:secure_)?getenv\b|\benviron\b|conf_parse_env\(/;

const code = (text: string): string => text.replace(/\/\/.*$|\/\*[\s\S]*?\*\//gm, "");

test("the environment is read where that is safe, and nowhere else", () => {
  const files = readdirSync(native, { recursive: true, encoding: "utf8" });
  const sources = files.filter((file) => /\.(c|cpp|h|hpp)$/.test(file));
  const readers = sources.filter((file) => READS.test(code(readFileSync(native + file, "utf8"))));
  expect(readers.sort()).toEqual(Object.keys(READERS).sort());
});
