// Plugins whose disks are elsewhere (curl, ssh, nbd, S3), against real servers on this machine: the
// same bytes, words and exit status under nbdkit and asyncnbd.

import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { type AddressInfo, createServer as createTcpServer } from "node:net";
import { userInfo } from "node:os";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { MIB, patternBytes } from "../support/fixtures.js";
import { ACCESS_KEY, startObjectStore } from "../support/object-store.js";
import { eventually, nbdkit, startServer, temporaryDirectory } from "../support/server.js";
import { expectSame, expectSameOutput } from "./both.js";

const SUM = `nbdinfo --size "$uri"; nbdcopy "$uri" - | cksum`;
const WRITE = `nbdcopy image "$uri" && ${SUM}`;

const serve = (words: string, command = SUM): string =>
  `{ server -U - ${words} --run '${command}'; echo "status $?"; }`;

/** Each with a folder of its own; those that create something are written to. */
async function expectSameOfAll(lines: readonly string[]): Promise<void> {
  const files = { image: patternBytes(MIB), file: "secret\n" };
  const command = (words: string) => (/create=|^nbd/.test(words) ? WRITE : SUM);
  await Promise.all(lines.map((words) => expectSame(serve(words, command(words)), files)));
}

describe("curl", () => {
  /** The path says how the server answers. */
  async function startHttp(content: Buffer): Promise<string> {
    const server = createServer((request, response): void => {
      const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? "");
      const [from, to] = [Number(range?.[1] ?? 0), Number(range?.[2] ?? content.length - 1)];
      const isRefused =
        request.url === "/missing" ||
        (request.url === "/password" && request.headers.authorization === undefined) ||
        (request.url === "/header" && request.headers["x-word"] !== "hello");
      const head = response.writeHead.bind(response);
      if (isRefused) return void head(request.url === "/missing" ? 404 : 401).end();
      if (request.url === "/moved") return void head(302, { location: "/disk" }).end();
      head(range === null ? 200 : 206, {
        ...(request.url === "/no-ranges" ? {} : { "accept-ranges": "bytes" }),
        "content-length": to - from + 1,
        "content-range": `bytes ${from}-${to}/${content.length}`,
      });
      response.end(request.method === "HEAD" ? undefined : content.subarray(from, to + 1));
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    onTestFinished(() => {
      server.closeAllConnections();
      server.close();
    });
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  test("reads, follows, authenticates, and refuses alike", async () => {
    const url = await startHttp(patternBytes(MIB));
    await expectSameOfAll([
      `curl ${url}/disk`,
      `curl url=${url}/moved`,
      `curl ${url}/moved followlocation=false`,
      `curl ${url}/password`,
      `curl ${url}/password user=me password=secret`,
      `curl ${url}/password user=me password=+file`,
      `curl ${url}/header header='X-Word: hello'`,
      `curl ${url}/header header-script='echo to-stderr >&2; echo "X-Word: hello"'`,
      `curl ${url}/missing`,
      `curl ${url}/no-ranges`,
      `curl http://127.0.0.1:1/`,
      `curl nosuch://host/`,
      `curl ${url}/disk nosuch=1`,
      "curl",
    ]);
  });
});

describe("nbd", () => {
  test("passes on what is written and read, whoever serves it", async () => {
    const upstream = await startServer(["memory", "1M"], { command: nbdkit });
    await expectSameOfAll([
      `nbd socket=${upstream.socket}`,
      `nbd uri='nbd+unix:///?socket=${upstream.socket}'`,
      `nbd socket=${upstream.socket} shared=true`,
      "nbd command=nbdkit arg=--exit-with-parent arg=memory arg=1M",
      "nbd socket=/nonexistent",
      "nbd socket=/nonexistent retry=1",
      "nbd",
    ]);
  });
});

describe("S3", () => {
  test("keeps a disk in many objects, or reads it from one", async () => {
    const image = patternBytes(MIB);
    const store = await startObjectStore();
    store.objects.set("whole", image);
    const to = `S3 endpoint-url=${store.url} access-key=${ACCESS_KEY} secret-key=x bucket=bucket`;
    process.env.AWS_DEFAULT_REGION = "us-east-1";
    await expectSameOutput(serve(`${to} key=whole`));
    await expectSameOutput(serve(`${to.replace(ACCESS_KEY, "nobody")} key=whole`));
    // Each has keys of its own, with the same names.
    const key = 'key="$(basename "$PWD")" size=1M object-size=64K';
    const { stdout } = await expectSameOutput(
      serve(
        `${to} ${key}`,
        `${WRITE}; /usr/bin/python3 -m nbd -u "$uri" -c "h.trim(h.get_size(), 0)"; ${SUM}`,
      ),
      { image },
    );
    expect(stdout).toContain("status 0");
    expect([...store.objects.keys()]).toEqual(["whole"]);
  });
});

describe("ssh", () => {
  async function freePort(): Promise<number> {
    const server = createTcpServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    server.close();
    await once(server, "close");
    return port;
  }

  /** The words that say where and how. */
  async function startSshd(): Promise<string> {
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
    return `ssh host=127.0.0.1 port=${port} user=${userInfo().username} identity=${user} known-hosts=${known}`;
  }

  test("reads, creates and writes files of a server, and refuses alike", async () => {
    const sshd = await startSshd();
    await expectSameOfAll([
      `${sshd} path=$PWD/image`,
      `${sshd} $PWD/image compression=true`,
      `${sshd} $PWD/new create=true create-size=1M`,
      `${sshd} $PWD/nosuch`,
      `${sshd.replace(/identity=\S+/, "identity=/nonexistent")} $PWD/image`,
      `${sshd.replace(/known-hosts=\S+/, "known-hosts=/dev/null")} $PWD/image`,
      `${sshd.replace(/port=\S+/, "port=1")} $PWD/image`,
      "ssh host=127.0.0.1",
    ]);
  });
});
