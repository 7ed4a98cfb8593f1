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
    ["a server without ranges", "/whole", "the server ignores ranges"],
    ["an answer that redirects for ever, at the first try", "/loop", "redirect count exceeded"],
  ])("%s", async (_, path, words) => {
    const line = await mistake("http", `${origin}${path}?signature=secret`);
    expect(line).toContain(`${origin}${path}: ${words}`);
  });

  test("a password that cannot be decoded", async () => {
    const line = await mistake("http", "http://me:50%zz@localhost/disk.img");
    expect(line).toContain("a % in the user or the password encodes nothing");
    expect(line).not.toContain("zz");
  });

  test("another protocol", async () => {
    expect(await mistake("http", "ftp://localhost/disk.img")).toContain("url=ftp://localhost");
  });
});

test.each([
  ["log", "logfile", "/nonexistent/log"],
  ["log", "logfile", "/proc"],
  ["stats", "statsfile", "/nonexistent/stats"],
])("the filter %s with %s=%s", async (filter, key, path) => {
  const line = await mistake(`--filter=${filter}`, "memory", "1M", `${key}=${path}`);
  expect(line).toContain(`parameter ${key}=${path}: it cannot be written: `);
});

test("a plugin in TypeScript that says what is wrong by failure(), or has it from the system", async () => {
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

test("a name that no file can have", async () => {
  expect(await mistake("a".repeat(300))).toContain("there is no nbdkit-aaa");
});

test("a folder of plugins that is none", async () => {
  process.env.ASYNCNBD_PLUGIN_PATH = "/etc/passwd";
  onTestFinished(() => void delete process.env.ASYNCNBD_PLUGIN_PATH);
  expect(await mistake("memroy")).toContain('did you mean "memory"?');
});

test("times and sizes in help and in messages carry their unit", async () => {
  const filters = ["retry", "cache", "cow", "rate"].map((name) => `--filter=${name}`);
  const { stdout } = await runAsyncnbd(["--help", ...filters, "http"]);
  for (const [key, value] of Object.entries({
    "retry-delay": "500ms",
    timeout: "30s",
    "max-request": "4M",
    "cache-max-size": "256M",
    "cow-block-size": "64K",
    burstiness: "2s",
  }))
    expect(stdout).toMatch(new RegExp(`^${key}=.*default ${value}[,)]`, "m"));
  expect(stdout).not.toContain("default )");
  const line = await mistake("--filter=cow", "memory", "1M", "cow-block-size=1K");
  expect(line).toContain("the least is 4K");
});
