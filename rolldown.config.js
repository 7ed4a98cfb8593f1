// The published program: few files, because Node takes longer to find and link eighty than to run
// what is in them.

import { defineConfig } from "rolldown";

export default defineConfig({
  input: {
    index: "src/index.ts",
    "cli/main": "src/cli/main.ts",
    "middleware/index": "src/middleware/index.ts",
    "server/worker": "src/server/worker.ts",
  },
  platform: "node",
  external: [/^node:/, "jiti"],
  output: {
    dir: "dist",
    format: "esm",
    sourcemap: true,
    // As deep as what they are made of: modules find the package's folder from where they lie.
    chunkFileNames: "chunks/[name].js",
  },
});
