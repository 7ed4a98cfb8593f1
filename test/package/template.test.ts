// The project to copy for a plugin in TypeScript, as it is in the tarball: installed without a network,
// compiled, tested, served, and stopped by a debugger.

import { execFileSync, spawn } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { beforeAll, expect, inject, onTestFinished, test } from "vitest";
import { run, runOk } from "../support/command.js";
import { eventually } from "../support/server.js";

const root = fileURLToPath(new URL("../../", import.meta.url));
const DEADLINE_MS = 180_000;

let project = "";
const path = (name: string): string => join(project, name);
const json = (file: string) => JSON.parse(readFileSync(file, "utf8"));

/** Node's npm has its own colours and words, if it is asked. */
const env = { ...process.env, NO_UPDATE_NOTIFIER: "1" };
const npm = (...words: string[]) =>
  run(["npm", "--offline", "--silent", ...words], { cwd: project, env, deadlineMs: DEADLINE_MS });

beforeAll(async () => {
  const folder = mkdtempSync(join(tmpdir(), "asyncnbd-template-"));
  execFileSync("tar", ["-xzf", inject("tarball"), "-C", folder]);
  project = join(folder, "my-disk");
  cpSync(join(folder, "package", "examples", "typescript-plugin"), project, { recursive: true });
  // What it names, from where this repository has the same.
  const packages = ["typescript", "@types/node", "undici-types", "fast-check", "pure-rand"];
  const folders = packages.map((name) => join(root, "node_modules", name));
  const options = ["--no-save", "--install-links", "--no-audit", "--no-fund"];
  const { status, stderr } = await npm("install", ...options, ...folders, inject("tarball"));
  expect(status, stderr).toBe(0);
  return () => rmSync(folder, { recursive: true, force: true });
}, DEADLINE_MS);

/** A program that runs until the test ends; what it has said is in `output`. */
function start(argv: readonly string[], more: NodeJS.ProcessEnv = {}) {
  const [file, ...args] = argv as [string, ...string[]];
  const options = { cwd: project, env: { ...env, ...more }, detached: true };
  const child = spawn(file, args, { ...options, stdio: ["ignore", "pipe", "pipe"] });
  onTestFinished(() => {
    // With all that it has started, which may go on without it.
    try {
      process.kill(-(child.pid as number), "SIGKILL");
    } catch {
      // Nothing is left of it.
    }
  });
  const started = { output: "" };
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding("utf8").on("data", (text: string) => {
      started.output += text;
    });
  return started;
}

const uri = "nbd+unix:///?socket=disk.sock";
const sizeIsShown = async () => {
  const { status, stdout } = await run(["nbdinfo", "--size", uri], { cwd: project });
  return status === 0 ? stdout : undefined;
};

test("it names the versions of this repository", () => {
  const { devDependencies } = json(path("package.json"));
  const ours = json(join(root, "package.json")).devDependencies;
  expect(Object.keys(devDependencies)).toEqual(["@types/node", "fast-check", "typescript"]);
  expect(ours).toMatchObject(devDependencies);
});

test("it compiles, and its tests pass", { timeout: DEADLINE_MS }, async () => {
  const { status, stdout, stderr } = await npm("test");
  expect(status, stdout + stderr).toBe(0);
  expect(stdout).toMatch(/^# pass 5$|^ℹ pass 5$/m);
});

test("its tests find a mistake, and tsc finds another", { timeout: DEADLINE_MS }, async () => {
  const file = path("src/disk.ts");
  const right = readFileSync(file, "utf8");
  onTestFinished(() => writeFileSync(file, right));
  writeFileSync(file, right.replace("part.fill(0)", "part.fill(1)"));
  const wrong = await npm("test");
  expect(wrong.status).not.toBe(0);
  expect(wrong.stdout).toMatch(/test\/disk\.test\.ts:\d+:\d+/); // and not in JavaScript
  writeFileSync(file, right.replace("this.config.size", "this.config.siz"));
  const { status, stdout } = await npm("run", "build");
  expect(status).not.toBe(0);
  expect(stdout).toContain("src/disk.ts");
});

test("it serves its disk, without being compiled", { timeout: DEADLINE_MS }, async () => {
  start(["npm", "start"]);
  expect(await eventually("the disk", sizeIsShown)).toBe(`${2 ** 30}\n`);
});

test("a debugger stops at a line of TypeScript", { timeout: DEADLINE_MS }, async () => {
  expect((await npm("run", "build")).status).toBe(0);
  const server = start(["npm", "run", "debug"], { NODE_OPTIONS: "--inspect-port=0" });
  await debug(server);
});

test("an editor can start and stop it, too", { timeout: DEADLINE_MS }, async () => {
  const [{ program, args, preLaunchTask, cwd, outFiles }] = json(
    path(".vscode/launch.json"),
  ).configurations;
  const here = (text: string): string => text.replace("${workspaceFolder}", project);
  expect([here(cwd), here(outFiles[0])]).toEqual([project, path("dist/**/*.js")]);
  const [, script] = preLaunchTask.split(": ");
  expect((await npm("run", script)).status).toBe(0);
  await debug(start([process.execPath, "--inspect=0", here(program), ...args]));
});

/** Stops the server where a client's read is answered, looks at it, and lets it go on. */
async function debug(server: { readonly output: string }): Promise<void> {
  const url = await eventually("the inspector", () => /ws:\/\/\S+/.exec(server.output)?.[0]);
  await eventually("the disk", sizeIsShown);
  const source = path("src/disk.ts");
  const lines = readFileSync(source, "utf8").split("\n");
  const line = 1 + lines.findIndex((text) => text.includes("part.fill(0)"));
  const flag = "WebSocket" in globalThis ? [] : ["--experimental-websocket"];
  const stop = [path("dist/src/disk.js"), source, `${line}`, "number * 65536 + start"];
  const script = fileURLToPath(new URL("debugger.mjs", import.meta.url));
  const editor = start([process.execPath, ...flag, script, url, ...stop]);
  await eventually("the breakpoint", () => editor.output.includes("waiting") || undefined);
  const read = runOk(["qemu-io", "-r", "-f", "raw", "-c", "read -P 0 192k 512", uri], {
    cwd: project,
  });
  const seen = await eventually("the stop", () => /^\{.*\}$/m.exec(editor.output)?.[0]);
  expect(JSON.parse(seen)).toEqual({
    ...{ functionName: "pread", line, value: 192 * 1024 },
  });
  await read;
}
