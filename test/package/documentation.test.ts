// Commands of the documentation that need the package: its installation, as the README has it, and a
// project for a plugin in TypeScript. TypeScript comes by network.

import { copyFileSync, existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { beforeAll, expect, inject, test } from "vitest";
import { runOk } from "../support/command.js";
import { blocksOf, commandsOf } from "../support/documents.js";

const DEADLINE_MS = 300_000;

let folder = "";
let env: NodeJS.ProcessEnv;

/** The commands of a block, from what it begins with. */
function console(file: string, begins: string): string[] {
  const block = blocksOf(file).find(({ text }) => text.startsWith(begins));
  if (block === undefined) throw new Error(`${file} has no block that begins with ${begins}`);
  return commandsOf(block);
}

const shell = (script: string): Promise<string> =>
  runOk(["bash", "-ec", script], { cwd: folder, env, deadlineMs: DEADLINE_MS });

/** What scripts/release leaves, which is a step of .ci/run, and then what the README says. */
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "asyncnbd-documentation-"));
  const installed = join(folder, "installed");
  env = {
    ...process.env,
    ...{ PATH: `${installed}/bin:${process.env.PATH}`, NO_COLOR: "1" },
    ...{ npm_config_prefix: installed, npm_config_audit: "false", npm_config_fund: "false" },
    npm_config_prefer_offline: "true",
  };
  mkdirSync(join(folder, "release"));
  copyFileSync(inject("tarball"), join(folder, "release", basename(inject("tarball"))));
  for (const command of console("README.md", "$ npm install")) await shell(command);
  return () => rmSync(folder, { recursive: true, force: true });
}, DEADLINE_MS);

test("the README's installation gives the command and its manual", async () => {
  const size = await shell("asyncnbd memory 1G --run 'nbdinfo --size $uri'");
  expect(size).toBe(`${2 ** 30}\n`);
  const pages = { ...env, MANPATH: "" };
  const found = await runOk(["man", "-w", "asyncnbd"], { env: pages });
  expect(found.trim().startsWith(join(folder, "installed"))).toBe(true); // and not the machine's
});

test(
  "the project to copy installs its packages and passes its tests",
  async () => {
    const commands = console("docs/typescript-plugins.md", "$ cp ");
    const output = await shell(commands.join("\n"));
    expect(output).toMatch(/^# pass 5$|^ℹ pass 5$/m);
    for (const path of ["dist/src/disk.js.map", "node_modules/asyncnbd/package.json"])
      expect(existsSync(join(folder, "my-project", path)), path).toBe(true);
  },
  DEADLINE_MS,
);
