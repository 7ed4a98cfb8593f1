// A folder and a network of their own for commands that use fixed ports and the names of hosts.

import { type ChildProcess, spawn } from "node:child_process";
import { chmodSync, mkdirSync, openSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { isRunning } from "./process.js";
import { asyncnbd, eventually, temporaryDirectory } from "./server.js";

/** Without root, one becomes it in a namespace of users. */
const NAMESPACES = process.getuid?.() === 0 ? ["-n", "-m"] : ["-U", "-n", "-m"];

export class Sandbox {
  readonly directory = temporaryDirectory();
  readonly #own = temporaryDirectory();
  readonly #env: NodeJS.ProcessEnv;
  readonly #holder: ChildProcess;

  /** `hosts` have this machine's address. */
  private constructor(hosts: readonly string[], env: NodeJS.ProcessEnv) {
    const bin = join(this.#own, "bin");
    const command = join(bin, "asyncnbd");
    for (const folder of [bin, this.#pids]) mkdirSync(folder);
    writeFileSync(command, `#!/bin/sh\nexec ${asyncnbd.join(" ")} -P "${this.#pids}/$$" "$@"\n`);
    chmodSync(command, 0o755);
    writeFileSync(join(this.#own, "hosts"), `127.0.0.1 localhost ${hosts.join(" ")}\n`);
    this.#env = { ...process.env, ...env, PATH: `${bin}:${process.env.PATH}:/usr/sbin` };
    const options = process.getuid?.() === 0 ? "-nm" : "-rnm";
    const prepare = 'ip link set lo up && mount --bind "$0" /etc/hosts && echo ready && exec cat';
    this.#holder = spawn("unshare", [options, "sh", "-c", prepare, join(this.#own, "hosts")], {
      env: this.#env,
      stdio: ["pipe", "pipe", "inherit"],
    });
    onTestFinished(() => {
      for (const pid of this.#servers()) process.kill(pid, "SIGKILL");
      this.#holder.kill("SIGKILL");
    });
  }

  static async make(hosts: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Sandbox> {
    const sandbox = new Sandbox(hosts, env);
    await new Promise<void>((resolve, reject) => {
      sandbox.#holder.stdout?.once("data", () => resolve());
      sandbox.#holder.once("exit", () => reject(new Error("namespaces cannot be had")));
    });
    return sandbox;
  }

  get #pids(): string {
    return join(this.#own, "pids");
  }

  /** Of servers that have begun and not ended. */
  #servers(): number[] {
    return readdirSync(this.#pids)
      .map((name) => Number(readFileSync(join(this.#pids, name), "utf8")))
      .filter((pid) => pid > 0 && isRunning(pid));
  }

  start(argv: readonly string[]): ChildProcess {
    const into = ["-t", `${this.#holder.pid}`, ...NAMESPACES, `--wd=${this.directory}`];
    const user = NAMESPACES.includes("-U") ? ["--preserve-credentials"] : [];
    const log = openSync(join(this.#own, "output"), "a");
    const child = spawn("nsenter", [...into, ...user, ...argv], {
      env: this.#env,
      stdio: ["ignore", log, log],
    });
    onTestFinished(() => void child.kill("SIGKILL"));
    return child;
  }

  get output(): string {
    return readFileSync(join(this.#own, "output"), "utf8");
  }

  /** Runs a command as a shell does. One that serves goes on; it has begun when this returns. */
  async run(command: string): Promise<void> {
    const words = command.replace(/ +#.*$/, "");
    const serves = / -f /.test(words);
    const before = this.#servers().length;
    const child = this.start(["bash", "--norc", "-c", command]);
    const ended = new Promise<number>((resolve) => {
      child.once("exit", (code) => resolve(code ?? -1));
    });
    if (!serves || words.endsWith("&")) {
      const status = await ended;
      if (status !== 0) throw new Error(`${command}\nexit status ${status}\n${this.output}`);
    }
    if (serves)
      await eventually(`start of ${command}`, () => this.#servers().length > before || undefined);
  }

  async stopServers(): Promise<void> {
    const pids = this.#servers();
    for (const pid of pids) process.kill(pid, "SIGTERM");
    await eventually("end of the servers", () => !pids.some(isRunning) || undefined);
  }
}
