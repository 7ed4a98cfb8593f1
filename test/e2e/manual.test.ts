// Pages for man(1): they are those that package.json names, have no faults, and leave nothing out.

import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { beforeAll, describe, expect, test } from "vitest";
import { CLIENT_OPTIONS } from "../../src/cli/client/options.js";
import { SHOWN_OPTIONS } from "../../src/cli/options.js";
import { FILTERS } from "../../src/filters/built-in.js";
import * as testing from "../../src/testing/index.js";
import { run, runOk } from "../support/command.js";
import { runAsyncnbd } from "../support/server.js";

const root = fileURLToPath(new URL("../../", import.meta.url));
const made = mkdtempSync(join(tmpdir(), "asyncnbd-manual-"));

/** What npm links into its folder of pages: man1/asyncnbd.1 and so on. */
const { man } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { man: string[] };
const PAGES = man.map((path) => path.replace("./dist/man/", ""));

const PLUGINS = ["memory", "file", "async-file", "null", "delay-memory", "http", "ram"];

/** As a reader sees it, in lines so long that nothing is divided. */
const shown = (page: string): Promise<string> =>
  runOk(["sh", "-c", 'man -E UTF-8 -l "$0" | col -bx', join(made, page)], {
    env: { ...process.env, LC_ALL: "C.UTF-8", MANWIDTH: "1000" },
  });

const pageOf = (name: string): string =>
  PAGES.find((page) => page.includes(`/${name}.`)) ?? `no page ${name}`;

beforeAll(async () => {
  await runOk([process.execPath, join(root, "scripts", "man-pages.mjs"), made]);
  return () => rmSync(made, { recursive: true });
});

test("the manual pages are those that package.json names", () => {
  const files = readdirSync(made, { recursive: true, encoding: "utf8" });
  expect(files.filter((file) => /\.\d$/.test(file)).sort()).toEqual([...PAGES].sort());
});

describe.each(PAGES)("%s", (page) => {
  const path = join(made, page);

  test("causes no warnings of man and mandoc", async () => {
    const env = { ...process.env, LC_ALL: "C.UTF-8", MANWIDTH: "80", MANROFFSEQ: "" };
    const man = ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", path];
    expect((await run(man, { env })).stderr).toBe("");
    const { status, stdout } = await run(["mandoc", "-T", "lint", "-W", "warning", path]);
    expect({ status, stdout }).toEqual({ status: 0, stdout: "" });
  });

  test("has a first section for apropos", async () => {
    const { stdout } = await run(["lexgrog", path]);
    expect(stdout).toMatch(/^.*: "asyncnbd\S* - \S.*"\n$/);
  });
});

test("asyncnbd(1) has all options, and what they do", async () => {
  const text = await shown(pageOf("asyncnbd"));
  for (const { name, short, value, help } of SHOWN_OPTIONS) {
    expect(text).toContain(`--${name}${value === undefined ? "" : `=${value}`}`);
    if (short !== undefined) expect(text).toMatch(new RegExp(`^ +-${short}, --${name}`, "m"));
    expect(text).toContain(help);
  }
});

test("asyncnbd-client(1) has all options, and what they do", async () => {
  const text = await shown(pageOf("asyncnbd-client"));
  for (const { name, help } of CLIENT_OPTIONS) {
    expect(text).toContain(`--${name}`);
    expect(text).toContain(help);
  }
});

test("asyncnbd-testing(3) has all that the module exports", async () => {
  const text = await shown(pageOf("asyncnbd-testing"));
  for (const name of Object.keys(testing)) expect(text).toContain(name);
});

test("asyncnbd-filters(1) has all filters and their parameters", async () => {
  const text = await shown(pageOf("asyncnbd-filters"));
  for (const { name } of FILTERS) expect(text).toMatch(new RegExp(`^ +${name}( |$)`, "m"));
});

test("asyncnbd-remote(1) leads to the plugins' pages", async () => {
  const text = await shown(pageOf("asyncnbd-remote"));
  const table = text.slice(0, text.indexOf("WHEN A SERVER FAILS"));
  for (const name of ["http", "s3", "rbd", "async-file"])
    expect(table).toContain(`${name} (asyncnbd-${name}-plugin(1))`);
});

test.each(PLUGINS)("asyncnbd-%s-plugin(1) has all parameters of the plugin", async (plugin) => {
  const { stdout } = await runAsyncnbd(["--help", plugin]);
  const help = stdout.slice(stdout.indexOf("\nplugin: "));
  const keys = [...help.matchAll(/^\[?([a-z][\w-]*)=/gm)].map(([, key]) => key as string);
  expect(keys.length).toBeGreaterThan(0);
  const text = await shown(pageOf(`asyncnbd-${plugin}-plugin`));
  for (const key of keys) expect(text).toContain(`${key}=`);
});
