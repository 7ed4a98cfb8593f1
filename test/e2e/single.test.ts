// --single: one client on standard input and output, as sockets and as pipes.

import { spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { u32 } from "../support/bytes.js";
import { run } from "../support/command.js";
import { CMD, OPT } from "../support/protocol.js";
import { encodeOption, encodeRequest, goData } from "../support/raw-client.js";
import { asyncnbd, nbdkit, serverEnvironment, temporaryDirectory } from "../support/server.js";

/** A client's whole session: a write and a read of the same. */
const SESSION = (() => {
  return Buffer.concat([
    u32(3),
    encodeOption(OPT.GO, goData("")),
    encodeRequest({ type: CMD.WRITE, length: 600_000, cookie: 1n }),
    Buffer.alloc(600_000, 7),
    encodeRequest({ type: CMD.READ, length: 600_000, cookie: 2n }),
    encodeRequest({ type: CMD.DISC }),
  ]);
})();

test("libnbd starts the server as its own command", async () => {
  const program = `
import nbd, sys
h = nbd.NBD()
h.connect_command(sys.argv[1:])
assert h.get_size() == 1048576
h.pwrite(b"x" * 100000, 5000)
assert h.pread(100000, 5000) == b"x" * 100000
h.shutdown()
`;
  const { status, stderr } = await run([
    "/usr/bin/python3",
    "-c",
    program,
    ...asyncnbd,
    "-s",
    "memory",
    "1M",
  ]);
  expect([status, stderr]).toEqual([0, ""]);
});

test("a client on two pipes is served, and the server ends with it", async () => {
  const [file, ...args] = asyncnbd as [string, ...string[]];
  const child = spawn(file, [...args, "-s", "memory", "1M"], { env: serverEnvironment() });
  onTestFinished(() => {
    child.kill("SIGKILL");
  });
  const chunks: Buffer[] = [];
  child.stdout.on("data", (chunk: Buffer) => chunks.push(chunk));
  child.stdin.end(SESSION);
  const status = await new Promise((resolve) => child.once("close", resolve));
  const output = Buffer.concat(chunks);
  const data = output.subarray(-600_000);
  expect([status, data.equals(Buffer.alloc(600_000, 7))]).toEqual([0, true]);
  expect(output.subarray(-600_016, -600_000).toString("hex")).toBe(
    "67446698000000000000000000000002",
  );
});

test("the end of input before the handshake ends the server", async () => {
  const { status } = await run([...asyncnbd, "-s", "memory", "1M"], { env: serverEnvironment() });
  expect(status).toBe(0);
});

test("a session from a file is answered to a file", async () => {
  const directory = temporaryDirectory();
  const [input, output] = [join(directory, "in"), join(directory, "out")];
  writeFileSync(input, SESSION);
  const line = `exec ${asyncnbd.join(" ")} -s memory 1M <'${input}' >'${output}'`;
  const { status, stderr } = await run(["sh", "-c", line], { env: serverEnvironment() });
  expect([status, stderr]).toEqual([0, ""]);
  expect(readFileSync(output).subarray(-600_000).equals(Buffer.alloc(600_000, 7))).toBe(true);
});

test.each([
  ["standard input is", "<&-"],
  ["standard output is", ">&-"],
  ["both are", "<&- >&-"],
])("is an error, as for nbdkit, when %s closed", async (_, closed) => {
  for (const command of [asyncnbd, nbdkit]) {
    const env = command === nbdkit ? process.env : serverEnvironment();
    const line = `exec ${command.join(" ")} -s memory 1M ${closed}`;
    const { status, stderr } = await run(["sh", "-c", line], { env });
    expect([status, stderr.match(/\n/g)?.length]).toEqual([1, 1]);
    expect(stderr).toMatch(/standard (in|out)put|stdin/);
  }
});

test("/dev/null is a client that sends nothing", async () => {
  const line = `exec ${asyncnbd.join(" ")} -s memory 1M </dev/null >/dev/null`;
  const { status, stderr } = await run(["sh", "-c", line], { env: serverEnvironment() });
  expect([status, stderr]).toEqual([0, ""]);
});
