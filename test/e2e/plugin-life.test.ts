// Where a C plugin's callbacks run before the first client and after the last one.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { run } from "../support/command.js";
import {
  asyncnbd,
  nbdkit,
  runAsyncnbd,
  startServer,
  temporaryDirectory,
  testPlugin,
} from "../support/server.js";

const CALLS = `load main
symbols global
config main
config_complete main
thread_model main
get_ready main
after_fork main
cleanup main
unload main
`;

test.each([
  ["asyncnbd", asyncnbd, []],
  ["asyncnbd with a filter", asyncnbd, ["--filter=readonly"]],
  ["nbdkit", nbdkit, []],
])(
  "%s calls them on the process's main thread, where all see the plugin's symbols",
  async (...row) => {
    const [, command, options] = row;
    const report = join(temporaryDirectory(), "report");
    const plugin = [testPlugin("lifecycle"), `report=${report}`];
    const server = await startServer(plugin, { command, options });
    server.kill("SIGTERM");
    expect(await server.ended).toMatchObject({ status: 0 });
    expect(readFileSync(report, "utf8")).toBe(CALLS);
  },
);

test("--dump-plugin unloads the plugin, as nbdkit does", async () => {
  const directory = temporaryDirectory();
  const [ours, theirs] = [join(directory, "ours"), join(directory, "theirs")];
  const args = (report: string) => ["--dump-plugin", testPlugin("lifecycle"), `report=${report}`];
  expect((await runAsyncnbd(args(ours))).status).toBe(0);
  expect((await run([...nbdkit, ...args(theirs)])).status).toBe(0);
  expect(readFileSync(ours, "utf8")).toBe(readFileSync(theirs, "utf8"));
});
