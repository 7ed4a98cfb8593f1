// Loads a plugin's module: TypeScript or JavaScript, ESM or CommonJS, a file or a package.

import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { extname, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import type { JitiOptions, TransformOptions } from "jiti";
import { packageDirectory } from "../../addon/addon.js";
import { AsyncnbdError } from "../../errors.js";
import { PLUGIN_PREFIX, requireHere } from "../packages.js";
import { exampleDirectory, isShortName } from "../resolve.js";
import type { Plugin } from "./definition.js";
import { describeThrown } from "./errno.js";
import { cached } from "./transform-cache.js";

/** Of modules that can be plugins. */
export const EXTENSIONS: ReadonlySet<string> = new Set([
  ".ts",
  ".mts",
  ".cts",
  ".js",
  ".mjs",
  ".cjs",
]);

/**
 * Where a module is that a name on the command line may mean; undefined: it is something else.
 * A package's name may go without its `prefix`.
 */
export function resolveScript(name: string, prefix = PLUGIN_PREFIX): string | undefined {
  if (EXTENSIONS.has(extname(name))) return resolve(name);
  if (!isShortName(name) && !name.startsWith("@")) return undefined;
  const shipped = join(exampleDirectory, `${name}.ts`);
  if (prefix === PLUGIN_PREFIX && isShortName(name) && existsSync(shipped)) return shipped;
  const here = requireHere();
  for (const candidate of [prefix + name, name])
    try {
      const found = here.resolve(candidate);
      if (found !== candidate) return found; // else it is one of Node's own modules
    } catch {
      // not installed
    }
  return undefined;
}

const require = createRequire(import.meta.url);
const { version: jitiVersion } = require("jiti/package.json") as { version: string };

/**
 * What modules import of this package, by its names for them: they find the server that loads them,
 * installed beside them or not.
 */
function ownModules(): Record<string, string> {
  const { exports } = require(join(packageDirectory, "package.json")) as {
    exports: Record<string, string | { default: string }>;
  };
  const modules = Object.entries(exports).map(([name, target]): [string, string] => [
    name.replace(".", "asyncnbd"),
    join(packageDirectory, typeof target === "string" ? target : target.default),
  ]);
  // jiti takes the first that the name begins with.
  return Object.fromEntries(modules.sort(([a], [b]) => b.length - a.length));
}

/** What jiti makes of a module with an error of syntax: this, and an object in JSON. */
const SYNTAX_ERROR = "exports.__JITI_ERROR__ = ";

const isTransformed = (code: string): boolean => !code.startsWith(SYNTAX_ERROR);

/** jiti would throw one with words of its own. */
function syntaxError(code: string): AsyncnbdError {
  const { filename, line, column, message } = JSON.parse(code.slice(SYNTAX_ERROR.length));
  const place = `${filename}:${line}:${column + 1}`; // columns begin with 1 in editors
  return new AsyncnbdError(
    "SCRIPT_UNLOADABLE",
    `syntax error at ${place}: ${String(message).trim()}`,
  );
}

async function importModule(path: string, what: string): Promise<Record<string, unknown>> {
  if (!existsSync(path))
    throw new AsyncnbdError(
      "SCRIPT_NOT_FOUND",
      `cannot open ${what} ${path}: there is no such file`,
    );
  // Large, and not needed for objects. As CommonJS, or Node would start its loader of ES modules.
  const { createJiti } = require("jiti") as typeof import("jiti");
  const alias = ownModules();
  const options: JitiOptions = {
    alias,
    moduleCache: false,
    fsCache: false, // its own is in a directory that others may write to
    interopDefault: false,
    nativeModules: Object.values(alias),
  };
  const plain = createJiti(pathToFileURL(path).href, options);
  const transform = (input: TransformOptions): { code: string } => {
    const code = cached([jitiVersion, input], () => plain.transform(input), isTransformed);
    if (!isTransformed(code)) throw syntaxError(code);
    return { code };
  };
  const jiti = createJiti(pathToFileURL(path).href, { ...options, transform });
  try {
    return Object(await jiti.import(path)) as Record<string, unknown>;
  } catch (error) {
    const words = `cannot load ${what} ${path}: ${describeThrown(error)}`;
    throw new AsyncnbdError("SCRIPT_UNLOADABLE", words, { cause: error });
  }
}

export async function loadScript(path: string): Promise<Plugin> {
  return pluginOf(await importModule(path, "plugin"), path);
}

/** The first of a module's exports that passes `is`, the default one before the others. */
export async function loadExport<T>(
  path: string,
  what: string,
  is: (value: unknown) => value is T,
): Promise<T | undefined> {
  return candidatesOf(await importModule(path, what)).find(is);
}

const candidatesOf = (exports: Record<string, unknown>): unknown[] => [
  exports.default,
  exports["module.exports"],
  ...Object.values(exports),
  exports,
];

/** The default export, or else the only one that looks like a plugin; an instance of a class. */
function pluginOf(exports: Record<string, unknown>, path: string): Plugin {
  for (const candidate of candidatesOf(exports)) {
    const plugin = isClass(candidate) ? new candidate() : candidate;
    if (looksLikePlugin(plugin)) return plugin;
  }
  throw new AsyncnbdError("PLUGIN_INVALID", `${path} exports no plugin: ${whatIsMissing(exports)}`);
}

function whatIsMissing(exports: Record<string, unknown>): string {
  const begun = [exports.default, exports["module.exports"]].find(
    (value) => typeof value === "object" && value !== null && Object.keys(value).length > 0,
  ) as Record<string, unknown> | undefined;
  if (begun === undefined) return "export default definePlugin({ name, getSize, pread, … })";
  const missing = [
    ...(typeof begun.name === "string" ? [] : ["name"]),
    ...["getSize", "pread"].filter((callback) => typeof begun[callback] !== "function"),
  ];
  return `its default export has no ${missing.join(" and no ")}`;
}

function isClass(value: unknown): value is new () => unknown {
  return typeof value === "function" && /^class\b/.test(Function.prototype.toString.call(value));
}

function looksLikePlugin(value: unknown): value is Plugin {
  const { name, getSize, pread } = Object(value) as Record<string, unknown>;
  return typeof name === "string" && typeof getSize === "function" && typeof pread === "function";
}
