// The shipped rbd plugin with a Ceph cluster that wants keys (cephx): who may serve what, and what is
// said at start to those who may not.

import { randomBytes } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { startCeph } from "../support/ceph.js";
import { CMD } from "../support/protocol.js";
import { refusalOf } from "../support/refusal.js";
import { startServer } from "../support/server.js";
import { StrictClient } from "../support/strict-client.js";

const ceph = startCeph({ auth: "cephx" });

const keyring = (name: string): string => join(ceph.directory, `${name}.keyring`);

beforeAll(async () => {
  const user = (name: string, mon: string, ...osd: readonly string[]) =>
    ceph.run(
      ...["ceph", "auth", "get-or-create", `client.${name}`, "mon", mon],
      ...osd,
      ...["-o", keyring(name)],
    );
  await ceph.run("rbd", "create", "--size=8M", "rbd/disk");
  await user("writer", "profile rbd", "osd", "profile rbd pool=rbd");
  await user("reader", "profile rbd", "osd", "profile rbd-read-only pool=rbd");
  await user("nobody", "allow r");
  const wrong = ["--create-keyring", keyring("wrong"), "--gen-key", "-n", "client.writer"];
  await ceph.run("ceph-authtool", ...wrong);
});

const words = (image: string, id: string, file = id): string[] => [
  ...["rbd", image, `conf=${ceph.conf}`, `id=${id}`, `keyring=${keyring(file)}`],
];

test("a user with rights and the right key can serve, and the key is shown nowhere", async () => {
  const server = await startServer(words("rbd/disk", "writer"), { options: ["-v"] });
  const client = await StrictClient.connect(server.socket, { style: "structured" });
  const payload = randomBytes(4096);
  expect((await client.request({ type: CMD.WRITE, payload })).error).toBe(0);
  expect((await client.read(0n, 4096)).data.equals(payload)).toBe(true);
  const key = /key = (\S+)/.exec(readFileSync(keyring("writer"), "utf8"))?.[1] as string;
  expect(key.length).toBeGreaterThan(20);
  const process = `/proc/${server.pid}`;
  for (const file of [`${process}/cmdline`, `${process}/environ`])
    expect(readFileSync(file, "utf8")).not.toContain(key);
  await client.disconnect();
  const { stderr } = await server.stop();
  expect(stderr).toContain("rbd");
  expect(stderr).not.toContain(key);
  for (const log of readdirSync(join(ceph.directory, "log")).filter((name) => /client/.test(name)))
    expect(readFileSync(join(ceph.directory, "log", log), "utf8")).not.toContain(key);
});

describe("is refused at start in one sentence:", () => {
  test.each<[what: string, image: string, id: string, file: string, sentence: string]>([
    ["a wrong key", "rbd/disk", "writer", "wrong", "refuses client.writer: its key in "],
    ["an unknown user", "rbd/disk", "unknown", "writer", "refuses client.unknown: its key in "],
    [
      "a missing keyring",
      "rbd/disk",
      "writer",
      "nosuch",
      "/nosuch.keyring: No such file or directory",
    ],
    [
      "a user without rights",
      "rbd/disk",
      "nobody",
      "nobody",
      "does not allow client.nobody to open rbd/disk",
    ],
    [
      "a user without rights on the pool",
      "pool=rbd",
      "nobody",
      "nobody",
      "does not allow client.nobody to list the images of the pool rbd",
    ],
  ])("%s", async (_, image, id, file, sentence) => {
    const stderr = await refusalOf(words(image, id, file));
    expect(stderr).toContain(sentence);
    expect(stderr.trimEnd().split("\n")).toHaveLength(1);
  });
});

test("a user with read rights can serve read-only, and clients that could write are refused", async () => {
  const readable = await startServer(words("rbd/disk", "reader"), { options: ["-r"] });
  const client = await StrictClient.connect(readable.socket, { style: "structured" });
  expect((await client.read(0n, 512)).error).toBe(0);
  const server = await startServer(words("rbd/disk", "reader"));
  await expect(StrictClient.connect(server.socket, { style: "structured" })).rejects.toThrow();
  expect(server.stderr()).toContain("client.reader to open rbd/disk for writing");
});
