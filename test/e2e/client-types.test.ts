// The types of the built asyncnbd/client and asyncnbd/testing serve programs with each way of finding modules.

import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { test } from "vitest";
import { runOk } from "../support/command.js";
import { temporaryDirectory } from "../support/server.js";

const root = fileURLToPath(new URL("../../", import.meta.url));
const uses = (file: string): string =>
  readFileSync(join(root, "test", "types", file), "utf8")
    .replaceAll(/\.\.\/\.\.\/src\/(\w+)\/index\.js/g, "asyncnbd/$1")
    .replaceAll("../../src/index.js", "asyncnbd");

test.each([
  ["node16", "node16"],
  ["nodenext", "nodenext"],
  ["esnext", "bundler"],
])("module %s, resolution %s", async (module, moduleResolution) => {
  const project = temporaryDirectory();
  mkdirSync(join(project, "node_modules"));
  symlinkSync(root, join(project, "node_modules", "asyncnbd"));
  symlinkSync(join(root, "node_modules", "@types"), join(project, "node_modules", "@types"));
  writeFileSync(join(project, "package.json"), '{ "type": "module" }');
  const files = ["client.ts", "testing.ts"];
  for (const file of files) writeFileSync(join(project, file), uses(file));
  // skipLibCheck is false: what we declare has to be right by itself.
  const compilerOptions = {
    ...{ module, moduleResolution, target: "es2022", strict: true, noEmit: true },
    ...{ types: ["node"], exactOptionalPropertyTypes: true, skipLibCheck: false },
  };
  const config = { compilerOptions, files };
  writeFileSync(join(project, "tsconfig.json"), JSON.stringify(config));
  await runOk([join(root, "node_modules", ".bin", "tsc"), "-p", project]);
});
