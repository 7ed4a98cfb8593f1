// Where the binaries for this machine are, the addon and the shipped plugins, and what to do if it
// has none that it can load.

import { existsSync } from "node:fs";
import { join } from "node:path";

export interface Binaries {
  readonly directory: string;
  /** Built on this machine, else they came with the package. */
  readonly areBuiltHere: boolean;
}

/**
 * A build in a clone goes before what the package has, as it has the sources' last changes.
 * ASYNCNBD_BUILD_DIR selects another build, such as one with sanitizers.
 */
export function findBinaries(packageDirectory: string): Binaries {
  const chosen = process.env.ASYNCNBD_BUILD_DIR;
  if (chosen) return { directory: chosen, areBuiltHere: true };
  const built = join(packageDirectory, "build", "Release");
  if (existsSync(addonIn(built))) return { directory: built, areBuiltHere: true };
  const prebuilt = join(packageDirectory, "prebuilds", `linux-${process.arch}`);
  return { directory: prebuilt, areBuiltHere: false };
}

export const addonIn = (directory: string): string => join(directory, "asyncnbd.node");

/** What scripts/prebuild makes, and the test of its binaries holds them to. */
const WHERE_THEY_RUN =
  "the package has binaries for x64 and arm64, for Linux with glibc 2.34 or newer (Debian 12, " +
  "Ubuntu 22.04, RHEL 9); for another processor or an older glibc, not for musl, build them in a " +
  'clone of its repository with "npm ci"';

/** Why the addon could not be loaded, and what to do. `reason`: the loader's. */
export function describeFailure(
  { directory, areBuiltHere }: Binaries,
  packageDirectory: string,
  reason: string,
): string {
  const path = addonIn(directory);
  const what = existsSync(path) ? `cannot load ${path}: ${reason}` : `there is no ${path}`;
  const remedy = `build it again with "npm run build" in ${packageDirectory}`;
  return `${what}; ${areBuiltHere ? remedy : WHERE_THEY_RUN}`;
}
