// Reads imports and includes: no folder may use one above or beside it.

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";

const root = fileURLToPath(new URL("../../", import.meta.url));

/** Which folders each folder may use, besides itself. */
const TYPESCRIPT: Readonly<Record<string, readonly string[]>> = {
  cli: ["server", "filters", "plugins", "addon", "config", "."],
  server: ["handshake", "filters", "plugins", "addon", "config", "."],
  handshake: ["addon", "."],
  filters: ["middleware", "plugins", "addon", "config", "."],
  middleware: ["plugins", "."],
  plugins: ["addon", "config", "."],
  config: ["."],
  addon: ["."],
  ".": ["server", "filters", "plugins", "addon", "config"], // index.ts is the top of all but the command
};

const NATIVE: Readonly<Record<string, readonly string[]>> = {
  addon: ["connection", "backend", "schedule", "host", "transport", "wire", "base"],
  connection: ["backend", "schedule", "host", "transport", "wire", "base"],
  schedule: ["base"], // and nothing of NBD, or of sockets
  backend: ["host", "transport", "wire", "base"], // pipes carry data that a backend need not touch
  host: ["wire", "include"],
  transport: [],
  wire: [],
  base: [],
  include: [],
  plugins: ["include"],
};

function filesBelow(folder: string, pattern: RegExp): string[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })
    .filter((file) => pattern.test(file))
    .map((file) => join(folder, file));
}

/** The first folder of a path below `base`, "." for a file in base itself. */
function roomOf(path: string, base: string): string {
  const parts = relative(base, path).split("/");
  return parts.length === 1 ? "." : (parts[0] as string);
}

function violations(
  files: readonly string[],
  base: string,
  allowed: Readonly<Record<string, readonly string[]>>,
  usedPaths: (file: string, text: string) => string[],
): string[] {
  return files.flatMap((file) => {
    const room = roomOf(file, base);
    return usedPaths(file, readFileSync(join(root, file), "utf8"))
      .map((path) => roomOf(path, base))
      .filter((used) => used !== room && !allowed[room]?.includes(used))
      .map((used) => `${file} uses ${used}`);
  });
}

describe("the layers", () => {
  test("of src/ point downward only", () => {
    const files = filesBelow("src", /\.ts$/);
    const imports = (file: string, text: string) =>
      [...text.matchAll(/from "(\.[^"]*)"/g)].map((m) => join(dirname(file), m[1] as string));
    expect(files.length).toBeGreaterThan(20);
    expect(violations(files, "src", TYPESCRIPT, imports)).toEqual([]);
  });

  test("of native/ point downward only", () => {
    const files = filesBelow("native", /\.(c|cpp|hpp|h)$/).filter((f) => !f.includes("/test/"));
    const includes = (file: string, text: string) =>
      [...text.matchAll(/#include ["<]([^">]*)[">]/g)]
        .map((m) => m[1] as string)
        .flatMap((path) => {
          if (path.startsWith("nbdkit-")) return [join("native/include", path)];
          const isOurs = existsSync(join(root, "native", path));
          return isOurs ? [join("native", path)] : [];
        })
        .filter((path) => path !== file);
    expect(files.length).toBeGreaterThan(40);
    expect(violations(files, "native", NATIVE, includes)).toEqual([]);
  });

  test("know Node-API in native/addon only", () => {
    const users = filesBelow("native", /\.(cpp|hpp)$/).filter((file) =>
      /#include <(napi|node_api|uv)\.h>/.test(readFileSync(join(root, file), "utf8")),
    );
    expect(users.filter((file) => !file.startsWith("native/addon/"))).toEqual([]);
  });
});
