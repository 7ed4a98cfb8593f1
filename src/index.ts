// What programs may import from the package.

import { join } from "node:path";
import { packageDirectory } from "./addon/load.js";

export { AsyncnbdError, type ErrorCode } from "./errors.js";
export { version } from "./version.js";

/** The folder of nbdkit-plugin.h, for compilers: `cc -I"$(node -p …)"`. */
export const includeDirectory = join(packageDirectory, "native", "include");
