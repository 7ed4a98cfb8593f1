// Mistakes get one line that says what is wrong; questions get answers and status 0.

import { describe, expect, test } from "vitest";
import { debianPlugin, runAsyncnbd } from "../support/server.js";

describe("a mistake", () => {
  test.each([
    [[], "no PLUGIN"],
    [["--nosuch", "memory"], "--nosuch"],
    [["--port"], "--port"],
    [["-U", "a", "-p", "1", "memory", "1M"], "--unix and --port"],
    [["-t", "x", "memory", "1M"], "--threads=x"],
    [["-p", "70000", "memory", "1M"], "--port=70000"],
    [["-p", "", "memory", "1M"], "--port="],
    [["--dump-plugin"], "PLUGIN"],
    [["-s", "--dump-plugin", "memory"], "--single"],
  ])("%j is one line about it, how to get help, and status 1", async (args, about) => {
    const { status, stdout, stderr } = await runAsyncnbd(args);
    expect([status, stdout]).toEqual([1, ""]);
    expect(stderr.trim().split("\n")).toHaveLength(1);
    expect(stderr).toContain(about);
    expect(stderr).toContain("asyncnbd --help");
  });

  test.each([
    [["-f", "nosuchplugin"], "nosuchplugin"],
    [["-f", "./missing.so"], "missing.so"],
    [["-f", "/etc/passwd"], "/etc/passwd"],
    [["-f", "memory"], "size"],
    [["-f", "memory", "size=much"], "much"],
    [["-f", "memory", "1M", "color=red"], "color"],
    [["-f", "file", "/nonexistent/disk"], "/nonexistent/disk"],
    [["-f", "file", "/etc"], "/etc"],
    [["-f", "-U", "/nonexistent/sock", "memory", "1M"], "/nonexistent/sock"],
    [["-f", "-U", `/tmp/${"x".repeat(120)}`, "memory", "1M"], "bytes long"],
    [["-f", "-i", "256.1.1.1", "memory", "1M"], "256.1.1.1"],
    [["-f", "-p", "nosuchservice", "memory", "1M"], "nosuchservice"],
    [["-f", "-U", "-", "-P", "/nonexistent/pid", "memory", "1M"], "/nonexistent/pid"],
    [["-f", "-U", "-", "-u", "nosuchuser", "memory", "1M"], "nosuchuser"],
  ])("%j is one line about it and status 1", async (args, about) => {
    const { status, stderr } = await runAsyncnbd(args);
    expect(status).toBe(1);
    expect(stderr.trim().split("\n")).toHaveLength(1);
    expect(stderr).toContain(about);
  });
});

describe("a question", () => {
  test("--help lists the options and fits a terminal", async () => {
    const { status, stdout } = await runAsyncnbd(["--help"]);
    expect(status).toBe(0);
    for (const option of ["--unix", "--run", "--read-only", "--dump-plugin"])
      expect(stdout).toContain(option);
    for (const line of stdout.split("\n")) expect(line.length).toBeLessThanOrEqual(80);
  });

  test("--help PLUGIN adds the plugin's own help", async () => {
    const { stdout } = await runAsyncnbd(["--help", "memory"]);
    expect(stdout).toContain("plugin: memory");
    expect(stdout).toContain("size=<SIZE>");
  });

  test("--version PLUGIN gives both versions", async () => {
    const { stdout } = await runAsyncnbd(["--version", debianPlugin("memory")]);
    expect(stdout).toMatch(/^asyncnbd \d+\.\d+\.\d+\nmemory \d+\.\d+\.\d+\n$/);
  });

  test("--dump-config is sorted KEY=VALUE lines", async () => {
    const { stdout } = await runAsyncnbd(["--dump-config"]);
    const lines = stdout.trim().split("\n");
    expect(lines).toEqual([...lines].sort());
    for (const line of lines) expect(line).toMatch(/^[a-z_]+=.+$/);
    expect(lines).toContain("run_default_socket=Unix");
  });

  test("--dump-plugin prints our lines, then the plugin's own", async () => {
    const { status, stdout } = await runAsyncnbd([debianPlugin("file"), "--dump-plugin"]);
    expect(status).toBe(0);
    const lines = stdout.trim().split("\n");
    expect(lines[1]).toBe("name=file");
    expect(lines).toContain("has_pwrite=1");
    expect(lines.at(-1)).toMatch(/^file_/);
  });

  test("--long-options and --short-options are for completion", async () => {
    expect((await runAsyncnbd(["--long-options"])).stdout).toMatch(/^--unix\n/);
    expect((await runAsyncnbd(["--short-options"])).stdout).toMatch(/^-U\n/);
  });
});
