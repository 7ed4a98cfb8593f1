// The published program: CommonJS, because Node takes half as long as its own start to get ready for
// ES modules, and few files, because to find and link eighty takes longer than to run what is in
// them. What programs and plugins import is an ES module beside it, which names what the CommonJS has.

import { chmodSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { defineConfig } from "rolldown";

const CHUNKS = "chunks";
const FACADES = ["index", "client/index", "middleware/index", "testing/index"];
/** How each begins. */
const COMMANDS = {
  "cli/main.js": readFileSync(new URL("src/cli/prologue.sh", import.meta.url), "utf8"),
  "cli/client.js": "#!/usr/bin/env node\n",
};

/** Chunks of earlier builds, and their maps. */
function removeOld(directory, bundle) {
  for (const file of readdirSync(directory))
    if (!(`${CHUNKS}/${file.replace(/\.map$/, "")}` in bundle)) rmSync(join(directory, file));
}

/** An ES module with the same exports. */
function writeFacade(path, { exports }) {
  const names = exports.toSorted().join(", ");
  writeFileSync(`${path}.js`, `export { ${names} } from "./${basename(path)}.cjs";\n`);
}

export default defineConfig({
  input: {
    index: "src/index.ts",
    "cli/main": "src/cli/main.ts",
    "cli/client": "src/cli/client/main.ts",
    "client/index": "src/client/index.ts",
    "middleware/index": "src/middleware/index.ts",
    "server/worker": "src/server/worker.ts",
    "testing/index": "src/testing/index.ts",
  },
  platform: "node",
  external: [/^node:/, "jiti", "fast-check"],
  plugins: [
    {
      name: "finish",
      writeBundle: ({ dir }, bundle) => {
        for (const command of Object.keys(COMMANDS)) chmodSync(join(dir, command), 0o755);
        // Or Node would take its name for that of an ES module, which all are in this package.
        writeFileSync(join(dir, "cli", "package.json"), '{ "type": "commonjs" }\n');
        for (const entry of FACADES) writeFacade(join(dir, entry), bundle[`${entry}.cjs`]);
        removeOld(join(dir, CHUNKS), bundle);
      },
    },
  ],
  output: {
    dir: "dist",
    format: "cjs",
    exports: "named",
    strict: true,
    sourcemap: "hidden", // for who debugs a clone: the package has no maps, so nothing names them
    postBanner: ({ fileName }) => COMMANDS[fileName] ?? "",
    entryFileNames: ({ name }) => (`${name}.js` in COMMANDS ? `${name}.js` : "[name].cjs"),
    // As deep as what they are made of: modules find the package's folder from where they lie.
    // With a hash, since a server goes on while its package is upgraded: what it loads after that is
    // then missing, and not of another version.
    chunkFileNames: `${CHUNKS}/[name]-[hash].cjs`,
    // What a start in the foreground needs is in four: what is small is not worth one.
    codeSplitting: {
      groups: [
        {
          name: "command",
          priority: 2,
          test: /src\/(config\/parse|plugins\/(program|script\/pending))\.ts$/,
        },
        {
          name: "server",
          priority: 1,
          test: /src\/(server\/(server|tls|listen|open-export)|plugins\/script\/errno)\.ts$/,
        },
      ],
    },
  },
});
