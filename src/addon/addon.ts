// Loads the .node file, and knows the paths of it and of what was built with it.

import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { AsyncnbdError, messageOf } from "../errors.js";
import type { Addon } from "./types.js";

/** The package's directory: this file is in src/addon/, or part of one in dist/chunks/. */
export const packageDirectory = fileURLToPath(new URL("../../", import.meta.url));

/** The directory of nbdkit-plugin.h, for compilers: `cc -I"$(node -p …)"`. */
export const includeDirectory = join(packageDirectory, "native", "include");

/** ASYNCNBD_BUILD_DIR selects another build, such as one with sanitizers. */
export const buildDirectory =
  process.env.ASYNCNBD_BUILD_DIR ?? join(packageDirectory, "build", "Release");

export const shippedPluginDirectory = buildDirectory;

const addonPath = join(buildDirectory, "asyncnbd.node");

function load(): Addon {
  try {
    return createRequire(import.meta.url)(addonPath) as Addon;
  } catch (error) {
    throw new AsyncnbdError(
      "SYSTEM",
      `cannot load ${addonPath}: ${messageOf(error)}; ` +
        `run "npm rebuild" in ${dirname(packageDirectory)}`,
    );
  }
}

let loaded: Addon | undefined;

/** The addon, loaded at the first call: --help must work without it. */
export function addon(): Addon {
  loaded ??= load();
  return loaded;
}

export const loadedAddon = (): Addon | undefined => loaded;
