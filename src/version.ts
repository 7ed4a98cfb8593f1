// The package's version, and nbdkit's whose place it takes.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { packageDirectory } from "./addon/addon.js";

const manifest = JSON.parse(readFileSync(join(packageDirectory, "package.json"), "utf8")) as {
  version: string;
};

export const version: string = manifest.version;

/** The newest nbdkit whose whole interface for plugins there is; nbdkit-version.h has it too. */
export const NBDKIT_VERSION = "1.32.5";
