// The package's version.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { packageDirectory } from "./addon/load.js";

const manifest = JSON.parse(readFileSync(join(packageDirectory, "package.json"), "utf8")) as {
  version: string;
};

export const version: string = manifest.version;
