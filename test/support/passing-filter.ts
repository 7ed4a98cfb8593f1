// Where there is middleware for tests that passes everything on.

import { fileURLToPath } from "node:url";

/** The option that puts it in front of a plugin. */
export const passingFilter = (): string =>
  `--filter=${fileURLToPath(new URL("pass.ts", import.meta.url))}`;
