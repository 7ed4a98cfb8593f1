// An ssh server of this machine's files, and a key that it lets in.

import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { userInfo } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { onFreePort } from "./free-port.js";
import { eventually, temporaryDirectory } from "./server.js";

/** Lives as long as the test. The parameters for nbdkit's ssh plugin that say where and how. */
export async function startSshd(): Promise<string[]> {
  const directory = temporaryDirectory();
  const [host, user] = [join(directory, "host"), join(directory, "user")];
  for (const key of [host, user])
    execFileSync("ssh-keygen", ["-q", "-t", "rsa", "-m", "PEM", "-N", "", "-f", key]);
  if (userInfo().uid === 0) mkdirSync("/run/sshd", { recursive: true }); // it insists
  const port = await onFreePort((port) => listenAt(port, directory, host, user));
  const known = join(directory, "known");
  const [type, key] = readFileSync(`${host}.pub`, "utf8").split(" ");
  writeFileSync(known, `[127.0.0.1]:${port} ${type} ${key}\n`);
  const where = ["host=127.0.0.1", `port=${port}`, `user=${userInfo().username}`];
  return [...where, `identity=${user}`, `known-hosts=${known}`];
}

/** Rejects if it cannot listen there. Returns the port. */
async function listenAt(
  port: number,
  directory: string,
  host: string,
  user: string,
): Promise<number> {
  const config = join(directory, "config");
  writeFileSync(
    config,
    `Port ${port}\nListenAddress 127.0.0.1\nHostKey ${host}\nPidFile ${directory}/pid
AuthorizedKeysFile ${user}.pub\nStrictModes no\nUsePAM no\nSubsystem sftp internal-sftp\n`,
  );
  const sshd = spawn("/usr/sbin/sshd", ["-D", "-e", "-f", config], { stdio: "ignore" });
  onTestFinished(() => {
    sshd.kill();
  });
  await eventually("sshd", () => {
    if (sshd.exitCode !== null) throw new Error(`sshd ended with ${sshd.exitCode}`);
    return existsSync(join(directory, "pid")) || undefined;
  });
  return port;
}
