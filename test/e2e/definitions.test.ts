// What is wrong with a plugin's definition or its parameters is said, with the right name.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { clean, runAsyncnbd, temporaryDirectory } from "../support/server.js";

function module(text: string, name = "disk.ts"): string {
  const path = join(temporaryDirectory(), name);
  writeFileSync(path, text);
  return path;
}

const plugin = (body: string): string =>
  module(`export default { name: "disk", getSize: () => 512, pread() {}, ${body} };`);

/** Serves until the command has ended. */
const runOnce = (path: string, ...words: string[]) =>
  runAsyncnbd(["-U", "-", path, ...words, "--run", "true"]);

describe("a definition", () => {
  test.each([
    ["pwrit() {}", 'a plugin has no property "pwrit"; did you mean "pwrite"?'],
    ["Flush() {}", 'a plugin has no property "Flush"; did you mean "flush"?'],
    ["whatever: 1", 'a plugin has no property "whatever"'],
    ["config: { size: 'sise' }", 'the parameter size has the unknown type "sise"; did you'],
    [
      "config: { n: { type: 'bool', defualt: true } }",
      'has no property "defualt"; did you mean "default"?',
    ],
    ["config: { n: { type: 'bool', minimum: 1 } }", 'the parameter n has no property "minimum"'],
    ["metaContexts: { 'x-a:b': { status: () => [], isOfered() {} } }", 'did you mean "isOffered"?'],
  ])("with %s is warned of, and the server starts", async (body, words) => {
    const path = plugin(body);
    const parameters = body.includes("sise") ? ["size=1"] : [];
    const { status, stderr } = await runOnce(path, ...parameters);
    expect(stderr).toContain(`warning: ${path}: `);
    expect(stderr).toContain(words);
    expect(status).toBe(0);
  });

  test.each([
    ["with its own under another name", () => plugin("_disk: Buffer.alloc(512), _helper() {}")],
    [
      "in a class with fields and methods of its own",
      () =>
        module(`export default class { name = "disk"; blocks = new Map(); getSize() { return 512; }
        lookUp() {} pread() {} }`),
    ],
    [
      "as a module",
      () =>
        module(
          `export const name = "disk", getSize = () => 512, pread = () => {}; export const x = 1;`,
        ),
    ],
  ])("%s is accepted", async (_what, make) => {
    expect(await runOnce(make())).toMatchObject({ status: 0, stderr: "" });
  });

  test("in a class is warned of where a name is nearly right", async () => {
    const path = module(`export default class { name = "disk"; getSize() { return 512; } pread() {}
      pwrit() {} }`);
    expect((await runOnce(path)).stderr).toContain('did you mean "pwrite"?');
  });

  test("of a filter is warned of, too", async () => {
    const filter = module(`export default { name: "f", config: { n: "integr" }, creat() {},
      create: () => (plugin) => plugin };`);
    const options = ["-U", "-", `--filter=${filter}`, plugin(""), "n=1", "--run", "true"];
    const { stderr } = await runAsyncnbd(options);
    expect(stderr).toContain('a filter has no property "creat"; did you mean "create"?');
    expect(stderr).toContain('unknown type "integr"; did you mean "integer"?');
  });
});

describe("a parameter that is given twice", () => {
  test("is an error", async () => {
    const path = plugin('config: { file: "path" }');
    const { status, stderr } = await runOnce(path, "file=a", "file=b");
    expect(status).toBe(1);
    expect(stderr).toContain("plugin disk: parameter file is given more than once");
  });

  test.each([
    ["file=a file=b", ["file=a", "file=b"], '["a","b"]'],
    ["a b", ["a", "b"], '["a","b"]'],
    ["file=a", ["file=a"], '["a"]'],
    ["nothing", [], "[]"],
  ])("is a list where it is declared one: %s", async (_what, words, expected) => {
    const path =
      plugin(`config: { file: { type: "string", list: true, magic: true, required: false } },
      exportDescription() { return JSON.stringify(this.config.file); }`);
    const command = clean('nbdinfo --json "$uri"');
    const { stdout } = await runAsyncnbd(["-U", "-", path, ...words, "--run", command]);
    expect(JSON.parse(stdout).exports[0].description).toBe(expected);
  });

  test("of a list must be valid each time and given at least once", async () => {
    const path = plugin('config: { n: { type: "integer", list: true } }');
    expect((await runOnce(path, "n=1", "n=x")).stderr).toContain("n=x: not a whole number");
    expect((await runOnce(path)).stderr).toContain("needs the parameter n=");
  });
});

test("defaults in the help have their unit", async () => {
  const path = plugin(`config: { wait: { type: "time", default: 500 }, size: { type: "size",
    default: 4194304 }, odd: { type: "size", default: 1000 }, n: { type: "integer", default: 7 } }`);
  const { stdout } = await runAsyncnbd(["--help", path]);
  for (const text of ["(default 500ms)", "(default 4M)", "(default 1000)", "(default 7)"])
    expect(stdout).toContain(text);
});
