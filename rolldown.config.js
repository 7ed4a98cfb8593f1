// The published program: few files, because Node takes longer to find and link eighty than to run
// what is in them.

import { chmodSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { defineConfig } from "rolldown";

const COMMAND = "cli/main.js";
const prologue = readFileSync(new URL("src/cli/prologue.sh", import.meta.url), "utf8");

export default defineConfig({
  input: {
    index: "src/index.ts",
    "cli/main": "src/cli/main.ts",
    "middleware/index": "src/middleware/index.ts",
    "server/worker": "src/server/worker.ts",
  },
  platform: "node",
  external: [/^node:/, "jiti"],
  plugins: [
    {
      name: "executable",
      writeBundle: ({ dir }) => chmodSync(join(dir, COMMAND), 0o755),
    },
  ],
  output: {
    dir: "dist",
    format: "esm",
    sourcemap: true,
    postBanner: ({ fileName }) => (fileName === COMMAND ? prologue : ""),
    // As deep as what they are made of: modules find the package's folder from where they lie.
    chunkFileNames: "chunks/[name].js",
  },
});
