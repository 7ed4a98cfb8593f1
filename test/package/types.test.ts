// The types in the tarball serve programs with an old TypeScript, with ours and with the newest, and with
// each way of finding modules; and wrong uses do not compile. TypeScript comes by network, since several
// versions among this repository's dependencies would all be "tsc".

import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { beforeAll, describe, expect, inject, test } from "vitest";
import { run, runOk } from "../support/command.js";

const root = fileURLToPath(new URL("../../", import.meta.url));
const FILES = ["client.ts", "definitions.ts", "testing.ts"];
const uses = (file: string): string =>
  readFileSync(join(root, "test", "types", file), "utf8")
    .replaceAll(/\.\.\/\.\.\/src\/(\w+)\/index\.js/g, "asyncnbd/$1")
    .replaceAll("../../src/index.js", "asyncnbd");

/** Of TypeScript. The newest is written in another language. */
const VERSIONS = ["5.6.3", "6.0.3", "7.0.2"];
const INSTALL_DEADLINE_MS = 300_000;

/** Where the tarball is unpacked, as npm would. */
let modules = "";
const compilerOf = (version: string): string =>
  join(modules, "..", version, "node_modules", "typescript", "bin", "tsc");

beforeAll(async () => {
  modules = join(mkdtempSync(join(tmpdir(), "asyncnbd-types-")), "node_modules");
  mkdirSync(modules);
  execFileSync("tar", ["-xzf", inject("tarball"), "-C", modules]);
  execFileSync("mv", [join(modules, "package"), join(modules, "asyncnbd")]);
  symlinkSync(join(root, "node_modules", "@types"), join(modules, "@types"));
  for (const version of VERSIONS) {
    const folder = join(modules, "..", version);
    mkdirSync(folder);
    writeFileSync(join(folder, "package.json"), '{ "private": true }');
    const options = ["--prefer-offline", "--no-audit", "--no-fund", "--loglevel=error"];
    const npm = ["npm", "install", ...options, `typescript@${version}`];
    await runOk(npm, { cwd: folder, deadlineMs: INSTALL_DEADLINE_MS });
  }
  return () => rmSync(join(modules, ".."), { recursive: true });
}, INSTALL_DEADLINE_MS);

/** A project of these files, by their names. */
function makeProject(files: Readonly<Record<string, string>>, how: Record<string, string>): string {
  const project = mkdtempSync(join(modules, "..", "project-"));
  writeFileSync(join(project, "package.json"), '{ "type": "module" }');
  for (const [file, text] of Object.entries(files)) writeFileSync(join(project, file), text);
  // skipLibCheck is false: what we declare has to be right by itself.
  const compilerOptions = {
    ...{ ...how, target: "es2022", strict: true, noEmit: true, skipLibCheck: false },
    ...{ types: ["node"], exactOptionalPropertyTypes: true },
  };
  const config = { compilerOptions, files: Object.keys(files) };
  writeFileSync(join(project, "tsconfig.json"), JSON.stringify(config));
  return project;
}

const WAYS = [
  { module: "node16", moduleResolution: "node16" },
  { module: "nodenext", moduleResolution: "nodenext" },
  { module: "esnext", moduleResolution: "bundler" },
];

describe.each(VERSIONS)("TypeScript %s", (version) => {
  test.each(WAYS)("module $module, resolution $moduleResolution", async (how) => {
    const project = makeProject(Object.fromEntries(FILES.map((one) => [one, uses(one)])), how);
    await runOk([process.execPath, compilerOf(version), "-p", project]);
  });

  test("a wrong use is a type error", async () => {
    const wrong =
      'import { connect } from "asyncnbd/client";\nconnect("nbd://a", { contexs: [] });\n';
    const project = makeProject({ "wrong.ts": wrong }, WAYS[1] as (typeof WAYS)[number]);
    const { status, stdout } = await run([process.execPath, compilerOf(version), "-p", project]);
    expect(status).not.toBe(0);
    expect(stdout).toMatch(/wrong\.ts\(2,\d+\): error TS(2353|2561): .*contexs/);
  });
});
