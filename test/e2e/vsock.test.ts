// Listening on a vsock port, where the kernel has them; clients would be in a virtual machine.

import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { run } from "../support/command.js";
import {
  asyncnbd,
  eventually,
  runAsyncnbd,
  serverEnvironment,
  temporaryDirectory,
  testPlugin,
} from "../support/server.js";

const PORT = 10899;

/** By python, as Node knows no such sockets: "free", "taken", or why there are none. */
async function stateOfPort(): Promise<string> {
  const { stdout } = await run([
    "python3",
    "-c",
    `
import socket, errno
try:
    s = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    s.bind((socket.VMADDR_CID_ANY, ${PORT}))
    print("free")
except OSError as e:
    print("taken" if e.errno == errno.EADDRINUSE else e)
`,
  ]);
  return stdout.trim();
}

const hasVsock = (await stateOfPort()) === "free";

test.skipIf(!hasVsock)("--vsock listens and tells --run's command its address", async () => {
  const pidFile = join(temporaryDirectory(), "pid");
  const options = ["-f", "--vsock", "-p", String(PORT), "-P", pidFile];
  const argv = [...asyncnbd, ...options, testPlugin("null")];
  const server = spawn(argv[0] as string, argv.slice(1), { env: serverEnvironment() });
  onTestFinished(() => {
    server.kill("SIGKILL");
  });
  // Not by asking for the port again and again: that takes it for a moment, perhaps from the server.
  await eventually("the server listens", () => existsSync(pidFile) || undefined);
  expect(await stateOfPort()).toBe("taken");
  server.kill("SIGTERM");
  await eventually("the port is free again", async () =>
    (await stateOfPort()) === "free" ? true : undefined,
  );
  const command = ["--vsock", "-p", String(PORT), "--run", "echo $uri $port", testPlugin("null")];
  const { status, stdout } = await runAsyncnbd(command);
  expect({ status, stdout }).toEqual({ status: 0, stdout: `nbd+vsock://1:${PORT} ${PORT}\n` });
});

test.each([
  [["--vsock", "-U", "/tmp/x"], "--vsock and --unix cannot be used together"],
  [["--vsock", "-p", "nbd"], "--port=nbd is not a whole number from 0 to 4294967294"],
])("%j is a mistake of usage", async (options, words) => {
  const { status, stderr } = await runAsyncnbd([...options, testPlugin("null")]);
  expect(status).toBe(1);
  expect(stderr).toContain(words);
});
