// The background: the command returns when clients can connect, and the server goes on.

import { existsSync, readFileSync, readlinkSync, statSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { runOk } from "../support/command.js";
import { isRunning } from "../support/process.js";
import { eventually, runAsyncnbd, temporaryDirectory } from "../support/server.js";

interface Background {
  readonly pid: number;
  readonly socket: string;
  readonly pidFile: string;
}

async function startInBackground(...args: string[]): Promise<Background> {
  const directory = temporaryDirectory();
  const [socket, pidFile] = [join(directory, "sock"), join(directory, "pid")];
  const { status, stderr } = await runAsyncnbd(["-U", socket, "-P", pidFile, ...args]);
  expect([status, stderr]).toEqual([0, ""]);
  const pid = Number(readFileSync(pidFile, "utf8"));
  onTestFinished(() => {
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // it has ended, as it should
    }
  });
  return { pid, socket, pidFile };
}

async function end({ pid }: Background): Promise<void> {
  process.kill(pid, "SIGTERM");
  await eventually("the server's end", () => (isRunning(pid) ? undefined : true));
}

describe("a server in the background", () => {
  test("can be connected to as soon as the command returns", async () => {
    const server = await startInBackground("memory", "1M");
    expect(await runOk(["nbdinfo", "--size", `nbd+unix:///?socket=${server.socket}`])).toBe(
      "1048576\n",
    );
    await end(server);
    expect(existsSync(server.socket)).toBe(false);
  });

  test("has left its terminal, its folder and its standard streams", async () => {
    const { pid, ...server } = await startInBackground("memory", "1M");
    expect(readlinkSync(`/proc/${pid}/cwd`)).toBe("/");
    for (const fd of [0, 1, 2]) expect(readlinkSync(`/proc/${pid}/fd/${fd}`)).toBe("/dev/null");
    const [, session] =
      readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ").slice(1) ?? [];
    expect(Number(session)).toBe(pid);
    await end({ pid, ...server });
  });

  test("writes its own process ID for others to read, and leaves the file", async () => {
    const server = await startInBackground("memory", "1M");
    expect(readFileSync(server.pidFile, "utf8")).toBe(`${server.pid}\n`);
    expect(statSync(server.pidFile).mode & 0o777).toBe(0o644);
    await end(server);
    expect(existsSync(server.pidFile)).toBe(true);
  });

  test("finds files that were named relative to where it was started", async () => {
    const directory = temporaryDirectory();
    await runOk(["truncate", "-s", "12345", join(directory, "disk.img")]);
    const args = ["-U", "sock", "-P", "pid", "file", "disk.img"];
    expect((await runAsyncnbd(args, { cwd: directory })).status).toBe(0);
    const uri = `nbd+unix:///?socket=${join(directory, "sock")}`;
    expect(await runOk(["nbdinfo", "--size", uri])).toBe("12345\n");
    await end({
      pid: Number(readFileSync(join(directory, "pid"), "utf8")),
      socket: "",
      pidFile: "",
    });
  });

  test("that cannot listen fails in the command, with the reason", async () => {
    const server = await startInBackground("memory", "1M");
    const { status, stderr } = await runAsyncnbd(["-U", server.socket, "memory", "1M"]);
    expect(status).toBe(1);
    expect(stderr).toMatch(/cannot listen on the unix socket .*: Address already in use/);
    await end(server);
  });

  test("prints the URI of the port it has chosen before the command returns", async () => {
    const pidFile = join(temporaryDirectory(), "pid");
    const { status, stdout } = await runAsyncnbd(["-p", "0", "-P", pidFile, "memory", "1M"]);
    expect(status).toBe(0);
    expect(await runOk(["nbdinfo", "--size", stdout.trim()])).toBe("1048576\n");
    await end({ pid: Number(readFileSync(pidFile, "utf8")), socket: "", pidFile });
  });
});
