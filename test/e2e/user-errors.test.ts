// A user's mistake is answered with one line that says what is wrong, and no stack of anybody's.

import { writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { runAsyncnbd, temporaryDirectory } from "../support/server.js";

const web = createServer((request, response) => {
  const statuses: Record<string, number> = { "/404": 404, "/401": 401, "/whole": 200 };
  const status = statuses[(request.url ?? "").replace(/\?.*/, "")];
  if (status !== undefined) response.writeHead(status).end("x".repeat(100));
  else response.writeHead(302, { location: `/${Math.random()}` }).end();
});
let origin: string;

beforeAll(async () => {
  await new Promise<void>((resolve) => web.listen(0, "127.0.0.1", resolve));
  origin = `http://127.0.0.1:${(web.address() as AddressInfo).port}`;
});
afterAll(() => void web.close());

/** The only line. */
async function mistake(...args: string[]): Promise<string> {
  const { status, stdout, stderr } = await runAsyncnbd([...args, "--run", "true"]);
  expect([status, stdout, stderr.match(/\n/g)?.length]).toEqual([1, "", 1]);
  expect(stderr).not.toMatch(/\bat |\.[jt]s\b|Error\b/);
  return stderr;
}

describe("http with", () => {
  test.each([
    ["a file that is not there", "/404", "the server said 404"],
    ["no permission", "/401", "the server said 401"],
    ["a server without ranges", "/whole", "the server does not support range requests"],
    [
      "an answer that redirects for ever, at the first try",
      "/loop",
      "there are more than 10 redirects",
    ],
  ])("%s", async (_, path, words) => {
    const line = await mistake("http", `${origin}${path}?signature=secret`);
    expect(line).toContain(`${origin}${path}: ${words}`);
  });

  test("an unknown host, at the first try", async () => {
    const line = await mistake("http", "http://nowhere.invalid/disk.img"); // RFC 2606, section 2
    expect(line).toContain("http://nowhere.invalid/disk.img: there is no such host\n");
  });

  test("a password, which is not shown", async () => {
    const line = await mistake("http", "http://me:50%zz@127.0.0.1:1/disk.img");
    expect(line).toContain("http://127.0.0.1:1/disk.img: cannot connect");
    expect(line).not.toContain("zz");
  });

  test("another protocol", async () => {
    expect(await mistake("http", "ftp://localhost/disk.img")).toContain("url=ftp://localhost");
  });
});

test.each([
  ["log", "logfile=/nonexistent/log", "No such file or directory"],
  ["log", "logfile=/proc", "Is a directory"],
  ["stats", "statsfile=/nonexistent/stats", "No such file or directory"],
])("the filter %s with %s", async (filter, parameter, reason) => {
  const line = await mistake(`--filter=${filter}`, "memory", "1M", parameter);
  expect(line).toContain(`${parameter}: cannot open the file: ${reason}\n`);
});

describe("a failed start has its reason in one line, even if --run's command has begun:", () => {
  test.each([
    [
      "a PID file that cannot be written",
      ["-P", "/nonexistent/pid"],
      "cannot write the PID file /nonexistent/pid: no such file or directory",
    ],
    [
      "a user that there is not",
      ["-u", "nobody-at-all"],
      "cannot change to user nobody-at-all: there is no such user or group",
    ],
    [
      "a label that the kernel does not take",
      ["--selinux-label=a:b:c"], // no label anywhere
      "--selinux-label=a:b:c: the kernel does not take this label for sockets (EINVAL): it is not a valid label, or SELinux is off",
    ],
  ])("%s", async (_, options, words) => {
    const { status, stderr } = await runAsyncnbd([
      ...options,
      "memory",
      "1M",
      "--run",
      "exec sleep 60",
    ]);
    expect([status, stderr]).toEqual([1, `asyncnbd: error: ${words}\n`]);
  });
});

test.each([
  ["a service that there is not", ["-p", "no-such-service", "memory", "1M"], "no such service"],
  [
    "a folder for a socket",
    ["-U", "/tmp", "memory", "1M"],
    "a file or directory of this name exists already",
  ],
  [
    "a filter's .so file that is not there",
    ["--filter=/usr/lib/nbdkit-cow-filter.so", "memory", "1M"],
    "cannot open filter /usr/lib/nbdkit-cow-filter.so: ",
  ],
  ["a value for a plugin without parameters", ["zero", "1M"], 'but "1M" was given'],
])("%s", async (_, words, message) => {
  expect(await mistake(...words)).toContain(message);
});

test("a value without a key that the plugin in TypeScript does not accept", async () => {
  const path = join(temporaryDirectory(), "own.mjs");
  writeFileSync(
    path,
    'export default { name: "own", config: { size: "size" }, getSize: () => 512, pread() {} };',
  );
  expect(await mistake(path, "1M")).toContain('"1M" is not a parameter: expected KEY=VALUE');
});

test.each([
  ["a plugin that has only begun", '{ name: "own" }', "its default export has no getSize and no"],
  ["a plugin without a name", "{ getSize: () => 512, pread() {} }", "default export has no name\n"],
  ["a module without one", "undefined", "export default definePlugin({ name, getSize, pread, … })"],
])("%s", async (_, exported, words) => {
  const path = join(temporaryDirectory(), "own.mjs");
  writeFileSync(path, `export default ${exported};`);
  const { status, stderr } = await runAsyncnbd([path, "--run", "true"]);
  expect([status, stderr.match(/\n/g)?.length]).toEqual([1, 1]);
  expect(stderr).toContain(`${path} exports no plugin: `);
  expect(stderr).toContain(words);
});

test.each(["ts", "mts", "cts", "mjs"])("a syntax error in a module .%s", async (extension) => {
  const directory = temporaryDirectory();
  const [path, other] = [join(directory, `own.${extension}`), join(directory, "other.ts")];
  writeFileSync(path, "export default {\n  name: 1;\n};\n");
  writeFileSync(other, `import "./own.${extension}";\nexport default {};\n`);
  const place = `syntax error at ${path}:2:10: Unexpected token, expected ","\n`;
  for (const plugin of [path, other]) {
    const { status, stderr } = await runAsyncnbd([plugin, "--run", "true"]);
    expect([status, stderr]).toEqual([
      1,
      `asyncnbd: error: cannot load plugin ${plugin}: ${place}`,
    ]);
  }
});

test("a plugin in TypeScript that throws a failure() or an error of the system", async () => {
  const plugin = (body: string): string => {
    const path = join(temporaryDirectory(), "own.ts");
    writeFileSync(
      path,
      `import { readFileSync } from "node:fs";
       import { definePlugin, failure } from "asyncnbd";
       export default definePlugin({ name: "own", getSize: () => 512, pread() {}, ${body} });`,
    );
    return path;
  };
  expect(await mistake(plugin('getReady() { throw failure("EINVAL", "no good"); }'))).toBe(
    "asyncnbd: error: own: no good\n",
  );
  expect(await mistake(plugin('load() { readFileSync("/nonexistent"); }'))).toMatch(
    /^asyncnbd: error: own: ENOENT: .*nonexistent/,
  );
});

test("a name that is too long for a file", async () => {
  expect(await mistake("a".repeat(300))).toContain("there is no nbdkit-aaa");
});

test("a folder of plugins that does not exist", async () => {
  process.env.ASYNCNBD_PLUGIN_PATH = "/etc/passwd";
  onTestFinished(() => void delete process.env.ASYNCNBD_PLUGIN_PATH);
  expect(await mistake("memroy")).toContain('did you mean "memory"?');
});

test("times and sizes in help and messages have a unit", async () => {
  const filters = ["retry", "cache", "cow", "rate"].map((name) => `--filter=${name}`);
  const { stdout } = await runAsyncnbd(["--help", ...filters, "http"]);
  for (const [key, value] of Object.entries({
    "retry-delay": "500ms",
    timeout: "30s",
    "max-request": "4M",
    "cache-min-block-size": "64K",
    "cow-block-size": "64K",
  }))
    expect(stdout).toMatch(new RegExp(`^${key}=.*default ${value}[,)]`, "m"));
  expect(stdout).not.toContain("default )");
  const line = await mistake("--filter=cow", "memory", "1M", "cow-block-size=1K");
  expect(line).toContain("the minimum is 4K");
});
