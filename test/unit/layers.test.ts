// Reads imports and includes: no folder may use one above or beside it, and no files each other.

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";

const root = fileURLToPath(new URL("../../", import.meta.url));

/** Which folders each folder may use, besides itself. */
const TYPESCRIPT: Readonly<Record<string, readonly string[]>> = {
  cli: ["server", "client", "exports", "filters", "plugins", "addon", "config", "."],
  server: ["exports", "handshake", "filters", "plugins", "addon", "config", "."],
  testing: ["server", "client", "middleware", "plugins", "."],
  exports: ["filters", "plugins", "addon", "config", "."],
  handshake: ["addon", "."],
  client: ["config", "."],
  filters: ["middleware", "plugins", "addon", "config", "."],
  middleware: ["plugins", "."],
  plugins: ["addon", "config", "."],
  config: ["."],
  addon: ["."],
  ".": ["server", "filters", "plugins", "addon", "config"], // index.ts is the top of all but the command
};

const NATIVE: Readonly<Record<string, readonly string[]>> = {
  addon: ["nbd", "filters", "cplugin", "backend", "schedule", "host", "transport", "wire", "base"],
  nbd: ["backend", "schedule", "host", "transport", "wire", "base"],
  schedule: ["base"], // and nothing of NBD, or of sockets
  filters: ["store", "backend", "host", "transport", "wire", "base"],
  cplugin: ["backend", "host", "wire", "base"],
  store: ["transport", "base"],
  backend: ["host", "transport", "wire", "base"], // pipes carry data that a backend need not touch
  host: ["wire", "base", "include"],
  transport: ["base"],
  wire: [],
  base: [],
  include: [],
  plugins: ["include"],
};

/** Imports at run time that point upward all the same, with the reason. */
const KNOWN_DYNAMIC_IMPORTS: readonly string[] = [
  "src/plugins/open-plugin.ts uses filters", // to say of a filter's name that it is no plugin's
];

type Graph = ReadonlyMap<string, readonly string[]>;

/** What a file uses, and what that uses: itself too, if it is in a cycle. */
function reachable(graph: Graph, file: string): ReadonlySet<string> {
  const seen = new Set<string>();
  const left = [file];
  for (let next = left.pop(); next !== undefined; next = left.pop()) {
    const found = (graph.get(next) ?? []).filter((used) => !seen.has(used));
    for (const used of found) seen.add(used);
    left.push(...found);
  }
  return seen;
}

/** Each set of files that all use each other, as one string. */
function cycles(graph: Graph): string[] {
  const reach = new Map([...graph.keys()].map((file) => [file, reachable(graph, file)]));
  const sets = [...reach]
    .filter(([file, used]) => used.has(file))
    .map(([file, used]) => [...used].filter((other) => reach.get(other)?.has(file)).sort());
  return [...new Set(sets.map((set) => set.join(", ")))].sort();
}

function staticImports(file: string, text: string): string[] {
  const statements = text.matchAll(/^(?:import|export) (?!type )(?:[^;"]*from )?"(\.[^"]*)"/gm);
  return [...statements].map((m) => join(dirname(file), m[1] as string));
}

function dynamicImports(file: string, text: string): string[] {
  return [...text.matchAll(/\bimport\("(\.[^"]*)"\)/g)].map((m) =>
    join(dirname(file), m[1] as string),
  );
}

/** Of our own headers. */
function includes(file: string, text: string): string[] {
  return [...text.matchAll(/#include ["<]([^">]*)[">]/g)]
    .map((m) => m[1] as string)
    .flatMap((path) => {
      if (path.startsWith("nbdkit-")) return [join("native/include", path)];
      return existsSync(join(root, "native", path)) ? [join("native", path)] : [];
    })
    .filter((path) => path !== file);
}

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

/** What another front end than NBD may use: the ring of test/native is one. */
const FOR_FRONT_ENDS = [
  "filters",
  "cplugin",
  "backend",
  "schedule",
  "host",
  "transport",
  "wire",
  "base",
  "include",
];

const sources = filesBelow("src", /\.ts$/);
const nativeFiles = filesBelow("native", /\.(c|cpp|hpp|h)$/);

function read(file: string): string {
  return readFileSync(join(root, file), "utf8");
}

describe("the layers", () => {
  test("of src/ point downward only", () => {
    const imports = (file: string, text: string) =>
      [...text.matchAll(/from "(\.[^"]*)"/g)].map((m) => join(dirname(file), m[1] as string));
    expect(sources.length).toBeGreaterThan(20);
    expect(violations(sources, "src", TYPESCRIPT, imports)).toEqual([]);
  });

  test("of src/ point downward at run time, too, with known exceptions", () => {
    expect(violations(sources, "src", TYPESCRIPT, dynamicImports)).toEqual(KNOWN_DYNAMIC_IMPORTS);
    // A path that is computed, nobody can check.
    const computed = sources.filter((file) => /(?<![\w.])import\((?!")/.test(read(file)));
    expect(computed).toEqual([]);
  });

  test("of native/ point downward only", () => {
    expect(nativeFiles.length).toBeGreaterThan(40);
    expect(violations(nativeFiles, "native", NATIVE, includes)).toEqual([]);
  });

  test("of native/ serve another front end without the rooms of NBD's transmission", () => {
    const ring = filesBelow("test/native/ring", /\.(cpp|hpp)$/);
    const direct = ring.flatMap((file) => includes(file, read(file)));
    const graph = new Map(nativeFiles.map((file) => [file, includes(file, read(file))]));
    const all = [...direct, ...direct.flatMap((file) => [...reachable(graph, file)])];
    const rooms = new Set(all.map((file) => roomOf(file, "native")));
    expect(rooms).toContain("schedule");
    expect([...rooms].filter((room) => !FOR_FRONT_ENDS.includes(room))).toEqual([]);
  });

  test("use Node-API in native/addon only", () => {
    const users = nativeFiles.filter((file) => /#include <(napi|node_api|uv)\.h>/.test(read(file)));
    expect(users.filter((file) => !file.startsWith("native/addon/"))).toEqual([]);
  });
});

describe("cycles", () => {
  test("are found, however long", () => {
    const graph: Graph = new Map([
      ["a", ["b", "outside"]],
      ["b", ["c"]],
      ["c", ["a", "below"]],
      ["above", ["a", "self"]],
      ["below", []],
      ["self", ["self"]],
    ]);
    expect(cycles(graph)).toEqual(["a, b, c", "self"]);
  });

  // Types are gone when anything runs.
  test("are not among the imports of src/", () => {
    const graph = new Map(
      sources.map((file) => [
        file,
        staticImports(file, read(file)).map((path) => path.replace(/\.js$/, ".ts")),
      ]),
    );
    const used = [...graph.values()].flat();
    expect(used.length).toBeGreaterThan(100);
    expect(used.filter((path) => !graph.has(path))).toEqual([]);
    expect(cycles(graph)).toEqual([]);
  });

  // A header and its source count as one: else a forward declaration would hide that two need each other.
  test("are not among the includes of native/", () => {
    const unitOf = (file: string) => file.replace(/\.(c|cpp|hpp|h)$/, "");
    const graph = new Map<string, string[]>();
    for (const file of nativeFiles) {
      const unit = unitOf(file);
      const used = includes(file, read(file)).map(unitOf);
      graph.set(unit, [...(graph.get(unit) ?? []), ...used.filter((other) => other !== unit)]);
    }
    expect([...graph.values()].flat().length).toBeGreaterThan(100);
    expect(cycles(graph)).toEqual([]);
  });
});
