// Loads the .node file, and knows the package's directories.

import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { AsyncnbdError, messageOf } from "../errors.js";
import { addonIn, describeFailure, findBinaries } from "./binaries.js";
import type { Addon } from "./types.js";

/** The package's directory: this file is in src/addon/, or part of one in dist/chunks/. */
export const packageDirectory = fileURLToPath(new URL("../../", import.meta.url));

/** The directory of nbdkit-plugin.h, for compilers: `cc -I"$(node -p …)"`. */
export const includeDirectory = join(packageDirectory, "native", "include");

const binaries = findBinaries(packageDirectory);

export const shippedPluginDirectory = binaries.directory;

function load(): Addon {
  try {
    const module = { exports: {} };
    process.dlopen(module, addonIn(binaries.directory)); // which is what require() does, and no more
    return module.exports as Addon;
  } catch (error) {
    const message = describeFailure(binaries, packageDirectory, messageOf(error));
    throw new AsyncnbdError("ADDON_UNLOADABLE", message, { cause: error });
  }
}

let loaded: Addon | undefined;

/** The addon, loaded at the first call: --help must work without it. */
export function addon(): Addon {
  loaded ??= load();
  return loaded;
}

export const loadedAddon = (): Addon | undefined => loaded;
