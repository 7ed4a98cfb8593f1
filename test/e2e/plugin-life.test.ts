// Where a C plugin's callbacks run before the first client and after the last one.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { run } from "../support/command.js";
import { program } from "../support/program.js";
import {
  asyncnbd,
  nbdkit,
  runAsyncnbd,
  startServer,
  temporaryDirectory,
  testPlugin,
} from "../support/server.js";

const CALLS = (drained = ""): string => `load main
symbols global
config main
config_complete main
thread_model main
get_ready main
after_fork main
${drained}cleanup main
unload main
`;

test.each([
  ["asyncnbd", asyncnbd, [], CALLS("drained other\n")],
  ["asyncnbd with a filter", asyncnbd, ["--filter=readonly"], CALLS("drained other\n")],
  ["nbdkit", nbdkit, [], CALLS()],
])("%s calls the plugin on the main thread, with its symbols global", async (...row) => {
  const [, command, options, calls] = row;
  const report = join(temporaryDirectory(), "report");
  const plugin = [testPlugin("lifecycle"), `report=${report}`];
  const server = await startServer(plugin, { command, options });
  server.kill("SIGTERM");
  expect(await server.ended).toMatchObject({ status: 0 });
  expect(readFileSync(report, "utf8")).toBe(calls);
});

test("--dump-plugin unloads the plugin, as nbdkit does", async () => {
  const directory = temporaryDirectory();
  const [ours, theirs] = [join(directory, "ours"), join(directory, "theirs")];
  const args = (report: string) => ["--dump-plugin", testPlugin("lifecycle"), `report=${report}`];
  expect((await runAsyncnbd(args(ours))).status).toBe(0);
  expect((await run([...nbdkit, ...args(theirs)])).status).toBe(0);
  expect(readFileSync(ours, "utf8")).toBe(readFileSync(theirs, "utf8"));
});

test.each([
  ["a filter that there is not", '{ filters: ["nosuch"] }', "FILTER_NOT_FOUND"],
  ["a filter that is wrong", '{ filters: [wrong, "readonly"] }', "FILTER_INVALID"],
  ["a watch, which is for others", "{ watch: true }", "WATCH_IMPOSSIBLE"],
])("a plugin that was opened ends where %s makes the start fail", async (...row) => {
  const [, options, code] = row;
  const report = join(temporaryDirectory(), "report");
  await program(`
    process.env.NOISY_ENDED = ${JSON.stringify(report)}; // in C, too
    const wrong = { name: "wrong", create() {}, config: { "~standard":
      { version: 1, vendor: "none", validate: (value) => ({ value }) } } };
    await assert.rejects(serve({ plugin: ${JSON.stringify(testPlugin("noisy"))}, ...${options} }),
      { code: ${JSON.stringify(code)} });`);
  expect(readFileSync(report, "utf8")).toBe("unload\n");
});

test("a failed filter ends the watching of a module's file", async () => {
  const path = join(temporaryDirectory(), "disk.mjs");
  writeFileSync(path, 'export default { name: "disk", getSize: () => 512, pread() {} };');
  await program(`
    const options = { plugin: ${JSON.stringify(path)}, watch: true, filters: ["nosuch"] };
    await assert.rejects(serve(options), { code: "FILTER_NOT_FOUND" });`); // and the program ends
});
