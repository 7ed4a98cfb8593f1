// From the name of one of nbdkit's filters to the file to load.

import { existsSync, readdirSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { packageDirectory } from "../addon/addon.js";
import { distributionPluginDirectories, isSharedObject, isShortName } from "../plugins/resolve.js";

/** Where distributions put nbdkit's filters. */
export const distributionFilterDirectories = (): string[] =>
  distributionPluginDirectories().map((plugins) => join(dirname(plugins), "filters"));

/** For those who install filters; asyncnbd.pc has it as `filterdir`. */
const installedFilterDirectory = join(packageDirectory, "filters");

function searchPath(): string[] {
  const own = (process.env.ASYNCNBD_FILTER_PATH ?? "").split(":").filter((dir) => dir !== "");
  return [...own, installedFilterDirectory, ...distributionFilterDirectories()];
}

/** undefined: the name is not that of a shared object. */
export function resolveFilter(name: string): string | undefined {
  if (!isShortName(name)) return isSharedObject(name) ? resolve(name) : undefined;
  const files = searchPath().map((directory) => join(directory, `nbdkit-${name}-filter.so`));
  return files.find((file) => existsSync(file));
}

function filesIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

/** The short names of all that there are. */
export function filterNames(): string[] {
  const found = searchPath()
    .flatMap(filesIn)
    .map((file) => /^nbdkit-(.+)-filter\.so$/.exec(file)?.[1]);
  return [...new Set(found)].filter((name) => name !== undefined);
}
