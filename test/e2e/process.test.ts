// The server as a process: its user, its parent, its log, its addresses.

import { spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { run, runOk } from "../support/command.js";
import { CMD } from "../support/protocol.js";
import { RawClient } from "../support/raw-client.js";
import {
  asyncnbd,
  eventually,
  runAsyncnbd,
  sanitizer,
  serverEnvironment,
  startServer,
  temporaryDirectory,
  testPlugin,
} from "../support/server.js";

test.runIf(process.getuid?.() === 0)("-u and -g give up root in all threads", async () => {
  const options = ["-u", "nobody", "-g", "nogroup"];
  const server = await startServer(["memory", "1M"], { options });
  const client = await RawClient.connect(server.socket);
  await client.go();
  // A thread may end while this looks.
  const { stdout: status } = await run(["sh", "-c", `cat /proc/${server.pid}/task/*/status`]);
  const ids = new Set(
    [...status.matchAll(/^(?:Uid|Gid|Groups):\t(.*)$/gm)].map((m) => m[1]?.trim()),
  );
  expect([...ids].sort()).toEqual(["65534", "65534\t65534\t65534\t65534"]);
  await server.stop();
});

test("--exit-with-parent ends the server when its parent dies", async () => {
  const directory = temporaryDirectory();
  const pidFile = join(directory, "pid");
  const words = [
    ...asyncnbd,
    "--exit-with-parent",
    "-U",
    join(directory, "sock"),
    "-P",
    pidFile,
    "memory",
    "1M",
  ];
  const command = words.map((word) => `'${word}'`).join(" ");
  const parent = spawn("sh", ["-c", `${command} & wait`], {
    env: serverEnvironment(),
    stdio: "ignore",
  });
  const pid = await eventually("the PID file", () => {
    try {
      return Number(readFileSync(pidFile, "utf8")) || undefined;
    } catch {
      return undefined;
    }
  });
  parent.kill("SIGKILL");
  await eventually("the server's end", async () =>
    (await run(["kill", "-0", String(pid)])).status === 0 ? undefined : true,
  );
});

describe("--log", () => {
  test("null hides errors", async () => {
    const options = ["--log=null"];
    const server = await startServer([testPlugin("probe"), "fail=open"], { options });
    const client = await RawClient.connect(server.socket);
    await expect(client.go()).rejects.toThrow("refused");
    await server.stop();
    expect(server.stderr()).toBe("");
  });

  test("stderr has the plugin's name and the connection's number in its lines", async () => {
    const server = await startServer([testPlugin("probe"), "fail=open"]);
    const client = await RawClient.connect(server.socket);
    await expect(client.go()).rejects.toThrow("refused");
    await server.stop();
    expect(server.stderr()).toMatch(/^asyncnbd: probe\[\d+\]: error: open was told to fail$/m);
  });
});

test("-v logs every call with its numbers", async () => {
  const server = await startServer(["memory", "1M"], { options: ["-v"] });
  await runOk(["qemu-io", "-f", "raw", "-c", "write 4096 512", server.uri]);
  await server.stop();
  expect(server.stderr()).toMatch(/debug: memory: pwrite count=512 offset=4096/);
  expect(server.stderr()).toMatch(/debug: memory: unload/);
});

describe("a TCP server", () => {
  test("listens on both families by default, on one port", async () => {
    const { stdout, status } = await runAsyncnbd([
      "-p",
      "0",
      "memory",
      "1M",
      "--run",
      'unset LD_PRELOAD; for host in 127.0.0.1 "[::1]"; do nbdinfo --size "nbd://$host:$port"; done',
    ]);
    expect([status, stdout]).toEqual([0, "1048576\n1048576\n"]);
  });

  test.each([
    ["-4", "127.0.0.1", "[::1]"],
    ["-6", "[::1]", "127.0.0.1"],
  ])("with %s listens on one family only", async (option, reachable, refused) => {
    const { stdout } = await runAsyncnbd([
      option,
      "-p",
      "0",
      "memory",
      "1M",
      "--run",
      `unset LD_PRELOAD; nbdinfo --size "nbd://${reachable}:$port"; ` +
        `nbdinfo --size "nbd://${refused}:$port" 2>/dev/null || echo refused`,
    ]);
    expect(stdout).toBe("1048576\nrefused\n");
  });
});

// UndefinedBehaviorSanitizer opens a pipe to look at memory, and takes its failure for a bug.
test.skipIf(sanitizer !== undefined)(
  "clients beyond the descriptor limit wait instead of ending the server",
  async () => {
    const directory = temporaryDirectory();
    const socket = join(directory, "sock");
    const words = [...asyncnbd, "-f", "-U", socket, "memory", "1M"].map((word) => `'${word}'`);
    const child = spawn("sh", ["-c", `ulimit -n 64; exec ${words.join(" ")}`], {
      env: serverEnvironment(),
      stdio: ["ignore", "ignore", "pipe"],
    });
    const ended = new Promise((resolve) => child.once("close", resolve));
    const first = await eventually("the server", () =>
      RawClient.connect(socket).catch(() => undefined),
    );
    await first.go();
    const clients: RawClient[] = [];
    for (let i = 0; i < 80; i++) clients.push(await RawClient.connect(socket));
    expect(await first.request({ type: CMD.FLUSH })).toBe(0);
    for (const client of clients.slice(0, 70)) client.socket.destroy();
    await clients[79]?.go();
    expect(await clients[79]?.request({ type: CMD.FLUSH })).toBe(0);
    child.kill("SIGTERM");
    expect(await ended).toBe(0);
  },
);

test("it appears as asyncnbd with its arguments in lists of processes", async () => {
  const server = await startServer(["memory", "1M"]);
  const listed = await runOk(["ps", "-o", "comm=,args=", "-p", String(server.pid)]);
  expect(listed).toMatch(/^asyncnbd +asyncnbd -f -U \S+ memory 1M$/m);
  await server.stop();
});

describe("a plugin may execute the process again with its own command line", () => {
  const command = [testPlugin("restarter"), "note=two words"];

  test("before it gets ready, in the foreground", async () => {
    const { status, stdout } = await runAsyncnbd([
      "-U",
      "-",
      ...command,
      "--run",
      'nbdinfo --size "$uri"',
    ]);
    expect({ status, stdout }).toEqual({ status: 0, stdout: "9\n" });
  });

  test("before it gets ready, in the background", async () => {
    const directory = temporaryDirectory();
    const [socket, pidFile] = [join(directory, "s"), join(directory, "pid")];
    expect(await runAsyncnbd(["-U", socket, "-P", pidFile, ...command])).toMatchObject({
      status: 0,
    });
    expect(await runOk(["nbdinfo", "--size", `nbd+unix:///?socket=${socket}`])).toBe("9\n");
    process.kill(Number(readFileSync(pidFile, "utf8")), "SIGTERM");
    await eventually("its end", () => !existsSync(socket) || undefined);
  });

  test("before it describes itself", async () => {
    const { stdout } = await runAsyncnbd([...command, "--dump-plugin"]);
    expect(stdout).toMatch(/^restarted=1$/m);
  });
});

test("SIGUSR1 ends it, as any program that does not know the signal", async () => {
  const options = { env: serverEnvironment(), stdio: "ignore" } as const;
  const directory = temporaryDirectory();
  const pidFile = join(directory, "pid");
  const [file, ...words] = [...asyncnbd, "-f", "-U", join(directory, "s"), "-P", pidFile];
  const child = spawn(file as string, [...words, "memory", "1M"], options);
  const ended = new Promise((resolve) => child.once("close", (_, signal) => resolve(signal)));
  await eventually("the PID file", () => existsSync(pidFile) || undefined);
  child.kill("SIGUSR1");
  expect(await ended).toBe("SIGUSR1");
});

test("--swap is refused with the reason, and what to do instead", async () => {
  const { status, stderr } = await runAsyncnbd(["--swap", "-U", "-", "memory", "1M", "--run", ":"]);
  expect(status).toBe(1);
  expect(stderr).toMatch(
    /--swap is not supported.* locked.*systemd-run --scope -p MemorySwapMax=0/,
  );
});
