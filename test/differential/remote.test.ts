// Plugins whose disks are elsewhere (curl, ssh, nbd, S3), against real servers on this machine: the
// same bytes, words and exit status under nbdkit and asyncnbd.

import type { IncomingMessage } from "node:http";
import { describe, expect, test } from "vitest";
import { MIB, patternBytes } from "../support/fixtures.js";
import { type Refusal, startHttp } from "../support/http-server.js";
import { ACCESS_KEY, startObjectStore } from "../support/object-store.js";
import { nbdkit, startServer } from "../support/server.js";
import { startSshd } from "../support/ssh-server.js";
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
  function refuse({ url, headers }: IncomingMessage): Refusal {
    if (url === "/missing") return 404;
    if (url === "/moved") return "/disk";
    const isRefused =
      (url === "/password" && headers.authorization === undefined) ||
      (url === "/header" && headers["x-word"] !== "hello");
    return isRefused ? 401 : undefined;
  }

  test("reads, follows redirects, authenticates and refuses alike", async () => {
    const url = await startHttp(patternBytes(MIB), refuse);
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
  test("passes reads and writes on to any server", async () => {
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
  test("stores a disk in many objects, or reads it from one", async () => {
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
  test("reads, creates and writes files on a server, and refuses alike", async () => {
    const sshd = ["ssh", ...(await startSshd())].join(" ");
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
