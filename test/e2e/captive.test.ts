// --run: the command's variables, its exit status, and what is left behind.

import { existsSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { clean, runAsyncnbd, temporaryDirectory, testPlugin } from "../support/server.js";

const captive = (command: string, ...options: string[]) =>
  runAsyncnbd([...options, "memory", "1M", "--run", clean(command)]);

describe("$uri", () => {
  test.each([
    ["an IPv4 address", ["-i", "127.0.0.2"], "nbd://127.0.0.2:"],
    ["an IPv6 address", ["-i", "::1"], "nbd://[::1]:"],
    ["all of IPv6", ["-6"], "nbd://[::1]:"],
    ["all interfaces", [], "nbd://localhost:"],
  ])("names the bound address: %s", async (_, options, beginning) => {
    const command = 'echo "$uri"; nbdinfo --size "$uri"';
    const { stdout } = await captive(command, "-p", "0", ...options);
    const [uri, size] = stdout.split("\n");
    expect([uri?.slice(0, beginning.length), size]).toEqual([beginning, "1048576"]);
  });
});

describe("--run", () => {
  test.each([
    ["true", 0],
    ["false", 1],
    ["exit 42", 42],
    ["kill -9 $$", 137],
    ["kill -TERM $$", 143],
  ])("%s gives exit status %d", async (command, status) => {
    expect((await captive(command)).status).toBe(status);
  });

  test("names the signal that killed the command", async () => {
    expect((await captive("kill -9 $$")).stderr).toMatch(/killed by signal 9 \(SIGKILL\)/);
  });

  test("goes on when a signal ends the server, and gives its exit status", async () => {
    const log = join(temporaryDirectory(), "log");
    const wait = `while ! grep -q unload '${log}'; do sleep 0.01; done`;
    const command = clean(`kill $PPID; ${wait}; nbdinfo "$uri" 2>/dev/null || echo gone; exit 5`);
    const args = [testPlugin("probe"), `log=${log}`, "--run", command];
    const { status, stdout, stderr } = await runAsyncnbd(args);
    expect([status, stdout, stderr]).toEqual([5, "gone\n", ""]);
  });

  test("gives the command a private socket, and removes it", async () => {
    const { stdout } = await captive('test -S "$unixsocket" && echo "$uri|$nbd|$port|$unixsocket"');
    const [uri, nbd, port, socket] = stdout.trim().split("|");
    expect(uri).toBe(`nbd+unix://?socket=${socket}`);
    expect(nbd).toBe(uri);
    expect(port).toBe("");
    expect(existsSync(socket as string)).toBe(false);
  });

  test("gives the command the port that was chosen for -p 0", async () => {
    const { stdout, status } = await captive('echo "$uri $port"; nbdinfo --size "$uri"', "-p", "0");
    expect(status).toBe(0);
    expect(stdout).toMatch(/^nbd:\/\/localhost:(\d+) \1\n1048576\n$/);
  });

  test("quotes an export name for the URI and for the shell", async () => {
    const name = "it's $HOME/ü";
    const { stdout } = await captive('printf "%s\\n" "$exportname" "$uri"', "-e", name);
    const [exportName, uri] = stdout.split("\n");
    expect(exportName).toBe(name);
    expect(uri).toMatch(/^nbd\+unix:\/\/\/it%27s%20%24HOME\/%C3%BC\?socket=/);
  });

  test("exports none of its variables", async () => {
    expect((await captive("env")).stdout).not.toMatch(/^(uri|nbd|unixsocket)=/m);
  });

  test("leaves standard input to the command", async () => {
    const { stdout } = await runAsyncnbd(["memory", "1M", "--run", clean("cat")], {
      input: "hello",
    });
    expect(stdout).toBe("hello");
  });

  test("lets the command serve a real client", async () => {
    const { status, stdout } = await captive(
      'qemu-io -f raw -c "write -P 5 0 64k" -c "read -P 5 0 64k" "$uri" >/dev/null && nbdinfo --size "$uri"',
    );
    expect([status, stdout]).toEqual([0, "1048576\n"]);
  });

  test("ends with the command even when a client stays connected", async () => {
    const command = '(nbdfuse --help >/dev/null; exec nbdinfo --size "$uri") ; exit 7';
    expect((await captive(command)).status).toBe(7);
  });

  test("waits for the command when the plugin asks for shutdown", async () => {
    const command = clean('qemu-io -f raw -c flush "$uri" >/dev/null; exit 5');
    const plugin = [testPlugin("probe"), "shutdown-on=flush"];
    expect((await runAsyncnbd([...plugin, "--run", command])).status).toBe(5);
  });
});
