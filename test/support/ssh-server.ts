// An ssh server of this machine's files, and a key that it lets in.

import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { userInfo } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { eventually, temporaryDirectory } from "./server.js";

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

/** Lives as long as the test. The parameters for nbdkit's ssh plugin that say where and how. */
export async function startSshd(): Promise<string[]> {
  const directory = temporaryDirectory();
  const [host, user] = ["host", "user"].map((name) => join(directory, name));
  for (const key of [host, user])
    execFileSync("ssh-keygen", ["-q", "-t", "rsa", "-m", "PEM", "-N", "", "-f", key as string]);
  if (userInfo().uid === 0) mkdirSync("/run/sshd", { recursive: true }); // it insists
  const port = await freePort();
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
  await eventually("sshd", () => (existsSync(join(directory, "pid")) ? true : undefined));
  const known = join(directory, "known");
  const [type, key] = readFileSync(`${host}.pub`, "utf8").split(" ");
  writeFileSync(known, `[127.0.0.1]:${port} ${type} ${key}\n`);
  const where = ["host=127.0.0.1", `port=${port}`, `user=${userInfo().username}`];
  return [...where, `identity=${user}`, `known-hosts=${known}`];
}
