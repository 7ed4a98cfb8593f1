// Plugins and filters that are npm's packages, found where the command is run.

import { readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

/** A package's name may go without it. */
export const PLUGIN_PREFIX = "asyncnbd-plugin-";
export const FILTER_PREFIX = "asyncnbd-filter-";

/** As a program in the working directory would find modules. */
export const requireHere = (): NodeJS.Require => createRequire(join(process.cwd(), "package.json"));

/** None if there is no such directory, or it cannot be listed. */
function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

/** What is left of the names of installed packages, without this prefix. */
export function packageNames(prefix: string): string[] {
  const directories = requireHere().resolve.paths(prefix) ?? [];
  const names = directories.flatMap(namesIn).filter((name) => name.startsWith(prefix));
  return [...new Set(names.map((name) => name.slice(prefix.length)))];
}
