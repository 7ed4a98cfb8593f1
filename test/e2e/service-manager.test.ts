// What a service manager hears from the server: sd_notify(3), and nobody speaks in its place.

import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { RawClient } from "../support/raw-client.js";
import {
  clean,
  eventually,
  runAsyncnbd,
  startServer,
  temporaryDirectory,
  testPlugin,
} from "../support/server.js";

/** Node has no such sockets. Prints a line for each of the messages' lines. */
const RECEIVER = `
import socket, sys
name = sys.argv[1]
receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
receiver.bind("\\0" + name[1:] if name[0] == "@" else name)
print("bound", flush=True)
while True:
    print(receiver.recv(4096).decode(), flush=True)
`;

async function receive(name: string): Promise<() => string[]> {
  const receiver = spawn("python3", ["-c", RECEIVER, name], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  onTestFinished(() => void receiver.kill("SIGKILL"));
  let output = "";
  receiver.stdout.setEncoding("utf8").on("data", (text: string) => {
    output += text;
  });
  await eventually("the receiver", () => output.includes("bound") || undefined);
  return () => output.split("\n").slice(1, -1);
}

describe.each(["a path", "an abstract name"])("at %s, the service manager", (kind) => {
  test("is told when the server is ready, how many clients it has, and when it stops", async () => {
    const path = join(temporaryDirectory(), "notify");
    const name = kind === "a path" ? path : `@asyncnbd-test${path}`;
    const heard = await receive(name);
    const server = await startServer(["memory", "1M"], {
      env: { NOTIFY_SOCKET: name },
      noProbe: true,
    });
    await eventually("READY", () => heard()[1]);
    expect(heard()).toEqual(["READY=1", "STATUS=Serving memory to 0 clients"]);
    const client = await RawClient.open(server.socket);
    await eventually(
      "the client",
      () => heard().includes("STATUS=Serving memory to 1 client") || undefined,
    );
    client.socket.destroy();
    await eventually("its end", () => heard().filter((line) => / 0 clients/.test(line))[1]);
    await server.stop();
    await eventually("STOPPING", () => heard().at(-2) === "STOPPING=1" || undefined);
    expect(heard().at(-1)).toBe("STATUS=Stopping, with 0 clients");
  });
});

test("a server that fails to start sends nothing", async () => {
  const name = join(temporaryDirectory(), "notify");
  const heard = await receive(name);
  await runAsyncnbd(["-f", "memory", "size=much"], {
    env: { ...process.env, NOTIFY_SOCKET: name },
  });
  expect(heard()).toEqual([]);
});

test("a process executed again by a plugin notifies, too", async () => {
  const name = join(temporaryDirectory(), "notify");
  const heard = await receive(name);
  const { status } = await runAsyncnbd(
    ["-U", "-", testPlugin("restarter"), "note=1", "--run", "true"],
    {
      env: { ...process.env, NOTIFY_SOCKET: name },
    },
  );
  expect(status).toBe(0);
  expect(heard()).toContain("READY=1");
});

test("neither --run's command nor what a plugin starts gets the variable", async () => {
  const directory = temporaryDirectory();
  const env = { ...process.env, NOTIFY_SOCKET: join(directory, "nobody") };
  const seen = join(directory, "seen");
  const seenByFilter = join(directory, "seen-by-filter");
  const { stdout } = await runAsyncnbd(
    [
      "--filter=log",
      ...[
        "eval",
        `get_size=${clean(`echo "<$NOTIFY_SOCKET>" > ${seen}; echo 512`)}`,
        "pread=exit 1",
        `logscript=env > ${seenByFilter}`,
      ],
      ...["--run", clean('echo "<$NOTIFY_SOCKET>"; nbdinfo --size $uri')],
    ],
    { env },
  );
  expect(stdout).toBe("<>\n512\n");
  expect(readFileSync(seen, "utf8")).toBe("<>\n");
  const variables = readFileSync(seenByFilter, "utf8");
  expect(variables).toContain("PATH=");
  expect(variables).not.toContain("NOTIFY_SOCKET");
});

test("a manager that cannot be reached is a warning, and the server serves", async () => {
  const env = { ...process.env, NOTIFY_SOCKET: "/nonexistent/notify" };
  const { status, stderr } = await runAsyncnbd(["memory", "1M", "--run", "true"], { env });
  expect(status).toBe(0);
  expect(stderr).toContain("NOTIFY_SOCKET=/nonexistent/notify: cannot send READY=1: No such file");
});
