// The published program: few files, because Node takes longer to find and link eighty than to run
// what is in them.

import { chmodSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { defineConfig } from "rolldown";

const COMMAND = "cli/main.js";
const CLIENT = "cli/client.js";
const CHUNKS = "chunks";
const prologue = readFileSync(new URL("src/cli/prologue.sh", import.meta.url), "utf8");

/** Chunks of earlier builds, and their maps. */
function removeOld(directory, bundle) {
  for (const file of readdirSync(directory))
    if (!(`${CHUNKS}/${file.replace(/\.map$/, "")}` in bundle)) rmSync(join(directory, file));
}

export default defineConfig({
  input: {
    index: "src/index.ts",
    "cli/main": "src/cli/main.ts",
    "cli/client": "src/cli/client/main.ts",
    "client/index": "src/client/index.ts",
    "middleware/index": "src/middleware/index.ts",
    "server/worker": "src/server/worker.ts",
  },
  platform: "node",
  external: [/^node:/, "jiti"],
  plugins: [
    {
      name: "finish",
      writeBundle: ({ dir }, bundle) => {
        for (const command of [COMMAND, CLIENT]) chmodSync(join(dir, command), 0o755);
        removeOld(join(dir, CHUNKS), bundle);
      },
    },
  ],
  output: {
    dir: "dist",
    format: "esm",
    sourcemap: true,
    postBanner: ({ fileName }) =>
      fileName === COMMAND ? prologue : fileName === CLIENT ? "#!/usr/bin/env node\n" : "",
    // As deep as what they are made of: modules find the package's folder from where they lie.
    // With a hash, since a server goes on while its package is upgraded: what it loads after that is
    // then missing, and not of another version.
    chunkFileNames: `${CHUNKS}/[name]-[hash].js`,
  },
});
