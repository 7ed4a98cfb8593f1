// --log=/path, and what of the environment the log shows.

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { expect, test } from "vitest";
import { run } from "../support/command.js";
import {
  clean,
  debianPlugin,
  eventually,
  runAsyncnbd,
  temporaryDirectory,
  testPlugin,
} from "../support/server.js";

const READ = clean("qemu-io -r -f raw -c 'read 0 512' \"$uri\" >/dev/null 2>&1; true");

test("errors are appended to a file; debugging messages stay on stderr", async () => {
  const log = join(temporaryDirectory(), "log");
  writeFileSync(log, "earlier\n");
  const args = [`--log=${log}`, "-v", testPlugin("probe"), "fail=pread", "--run", READ];
  const { stderr } = await runAsyncnbd(args);
  expect(readFileSync(log, "utf8")).toMatch(
    /^earlier\nasyncnbd: probe\[1\]: error: pread was told to fail\n/,
  );
  expect(stderr).toContain("debug: ");
  expect(stderr).not.toContain("error: ");
});

test("a server in the background keeps writing to the file, and to no terminal", async () => {
  const directory = temporaryDirectory();
  const [log, socket, pid] = ["log", "socket", "pid"].map((name) => join(directory, name));
  const plugin = [testPlugin("probe"), "fail=pread"];
  const { stderr } = await runAsyncnbd([
    "-U",
    `${socket}`,
    "-P",
    `${pid}`,
    `--log=${log}`,
    ...plugin,
  ]);
  expect([stderr, readFileSync(`${log}`, "utf8")]).toEqual(["", ""]);
  await run(["qemu-io", "-r", "-f", "raw", "-c", "read 0 512", `nbd+unix:///?socket=${socket}`]);
  process.kill(Number(readFileSync(`${pid}`, "utf8")), "SIGTERM");
  await eventually("its end", () => !existsSync(`${socket}`) || undefined);
  expect(readFileSync(`${log}`, "utf8")).toContain("probe[1]: error: pread was told to fail\n");
});

test("a file that cannot be opened is an error in one line", async () => {
  const args = ["--log=/nonexistent/log", "memory", "1M", "--run", "true"];
  const { status, stderr } = await runAsyncnbd(args);
  expect(status).toBe(1);
  expect(stderr).toBe(
    "asyncnbd: error: --log=/nonexistent/log: cannot open the file: No such file or directory\n",
  );
});

test.each<[string, string[], boolean, boolean]>([
  ["nothing", [], true, true],
  ["nbdkit.backend.datapath=0", ["-D", "nbdkit.backend.datapath=0"], true, false],
  ["nbdkit.backend.controlpath=0", ["-D", "nbdkit.backend.controlpath=0"], false, true],
])("-v with -D %s shows what it says", async (_, flags, showsControl, showsData) => {
  const filter = join(dirname(dirname(debianPlugin("null"))), "filters/nbdkit-nofilter-filter.so");
  const args = ["-v", ...flags, `--filter=${filter}`, debianPlugin("memory"), "1M"];
  const { stderr } = await runAsyncnbd([...args, "--run", READ]);
  expect(stderr).not.toContain("was not used");
  for (const name of ["nofilter", "memory"]) {
    expect(stderr.includes(`: ${name}: get_size`)).toBe(showsControl);
    expect(stderr.includes(`: ${name}: pread`)).toBe(showsData);
  }
});

test("-D nbdkit.environ=1 shows the environment with -v, and nothing without", async () => {
  const env = { ...process.env, SHOWN: "a b=c" };
  const shows = ["-D", "nbdkit.environ=1", "-U", "-", "null", "--run", "true"];
  const ours = await runAsyncnbd(["-v", ...shows], { env });
  expect(ours.stderr).toContain("asyncnbd: debug: SHOWN=a b=c\n");
  expect((await runAsyncnbd(shows, { env })).stderr).toBe("");
});
