// What linters for packages say of the tarball: that what its package.json names is there and of the
// right kind (publint), and that TypeScript finds the types of it (attw).

import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { publint } from "publint";
import { formatMessage } from "publint/utils";
import { expect, inject, test } from "vitest";
import { runOk } from "../support/command.js";

const root = fileURLToPath(new URL("../../", import.meta.url));

const inTarball = (file: string): string =>
  execFileSync("tar", ["-xzOf", inject("tarball"), `package/${file}`], { encoding: "utf8" });

test("publint finds no fault, except for the command's shell prologue", async () => {
  const manifest = JSON.parse(inTarball("package.json"));
  const { buffer } = new Uint8Array(readFileSync(inject("tarball")));
  const { messages } = await publint({ pack: { tarball: buffer }, strict: true });
  // It knows "#!/usr/bin/env" alone, which would look for the shell in PATH.
  expect(inTarball(manifest.bin.asyncnbd)).toMatch(/^#!\/bin\/sh\n/);
  const others = messages.filter(({ code }) => code !== "BIN_FILE_NOT_EXECUTABLE");
  expect(others.map((message) => formatMessage(message, manifest))).toEqual([]);
});

test("TypeScript finds its types, as ES modules", async () => {
  const attw = join(root, "node_modules", ".bin", "attw");
  const said = await runOk([attw, "--profile", "esm-only", "--no-color", inject("tarball")]);
  for (const entry of ["asyncnbd", "asyncnbd/client", "asyncnbd/middleware", "asyncnbd/testing"])
    expect(said).toContain(`"${entry}"`);
});
