// The shipped rbd plugin with images that have LUKS, which Ceph's own command has made.

import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { NBD_FLAG_SEND_FAST_ZERO, NBD_FLAG_SEND_TRIM } from "../../src/protocol.js";
import { startCeph } from "../support/ceph.js";
import { runOk } from "../support/command.js";
import { MIB } from "../support/fixtures.js";
import { CMD } from "../support/protocol.js";
import { refusalOf } from "../support/refusal.js";
import {
  asyncnbd,
  eventually,
  type RunningServer,
  serverEnvironment,
  startServer,
  temporaryDirectory,
} from "../support/server.js";
import { StrictClient } from "../support/strict-client.js";

const ceph = startCeph();

/** A key takes a second or two of a processor to make from a passphrase, on purpose. */
const KEYS_MS = 180_000;
const START_MS = 60_000;

type Triple = [string, string, string];

const PASSPHRASE = "correct horse";

const fileOf = (text: string): string => {
  const file = join(temporaryDirectory(), "passphrase");
  writeFileSync(file, text, { mode: 0o600 });
  return file;
};

let images = 0;

async function makeImage(format?: "luks1" | "luks2"): Promise<string> {
  const name = `disk${++images}`;
  await ceph.run("rbd", "create", "--size=64M", `rbd/${name}`);
  if (format !== undefined)
    await ceph.run("rbd", "encryption", "format", `rbd/${name}`, format, fileOf(PASSPHRASE));
  return name;
}

const words = (name: string, passphrase: string): string[] => [
  ...["rbd", `rbd/${name}`, `conf=${ceph.conf}`, `passphrase=+${fileOf(passphrase)}`],
];

const connect = (server: RunningServer): Promise<StrictClient> =>
  StrictClient.connect(server.socket, { style: "structured", contexts: ["base:allocation"] });

/** By what knows of LUKS 1, and nothing of Ceph. */
const compareDecrypted = (encrypted: string, file: string): Promise<string> =>
  runOk([
    ...["qemu-img", "compare", "--object", `secret,id=pass,file=${fileOf(PASSPHRASE)}`],
    "--image-opts",
    `driver=luks,key-secret=pass,file.driver=file,file.filename=${encrypted}`,
    `driver=raw,file.driver=file,file.filename=${file}`,
  ]);

test.each(["luks1", "luks2"] as const)(
  "an image with %s is a disk, and the cluster has only encrypted data",
  async (format) => {
    const name = await makeImage(format);
    const server = await startServer(words(name, PASSPHRASE), {
      options: ["-v"],
      startMs: START_MS,
    });
    const client = await connect(server); // so that the key is made once
    const content = Buffer.alloc(Number(client.sizeBytes));
    expect(content.length).toBeLessThan(64 * MIB); // the header has its place
    randomBytes(MIB + 512).copy(content, 5 * MIB);
    randomBytes(8192).copy(content, content.length - 8192);
    const directory = temporaryDirectory();
    const [file, copy, raw] = ["in", "out", "raw"].map((one) => join(directory, one)) as Triple;
    writeFileSync(file, content);
    // Nothing is said to be a hole, as librbd knows of none in what it decrypts.
    const map = await runOk(["nbdinfo", "--map", "--totals", server.uri]);
    expect(map).toMatch(/^ *\d+ +100.0% +0 data\n$/);
    await runOk(["nbdcopy", "--flush", file, server.uri]);
    await client.disconnect();
    const { stderr } = await server.stop();
    expect(stderr).not.toContain(PASSPHRASE);

    await ceph.run("rbd", "export", "--no-progress", `rbd/${name}`, raw);
    const ciphertext = readFileSync(raw);
    expect(ciphertext.subarray(0, 4).toString()).toBe("LUKS");
    expect(ciphertext.includes(content.subarray(5 * MIB, 5 * MIB + 512))).toBe(false);
    if (format === "luks1") await compareDecrypted(raw, file);

    const again = await startServer(words(name, PASSPHRASE), { startMs: START_MS });
    await runOk(["nbdcopy", again.uri, copy]);
    expect(readFileSync(copy).equals(content)).toBe(true);
  },
  KEYS_MS,
);

test(
  "zeroes in an image with LUKS stay allocated, and trims are not offered",
  async () => {
    const server = await startServer(words(await makeImage("luks1"), PASSPHRASE), {
      startMs: START_MS,
    });
    const client = await connect(server);
    const payload = randomBytes(64 << 10);
    expect((await client.request({ type: CMD.WRITE, payload })).error).toBe(0);
    expect(client.flags & NBD_FLAG_SEND_TRIM).toBe(0);
    expect(client.flags & NBD_FLAG_SEND_FAST_ZERO).toBe(0);
    const zero = { type: CMD.WRITE_ZEROES, offset: 512n, length: 32 << 10 };
    expect((await client.request(zero)).error).toBe(0);
    payload.fill(0, 512, 512 + (32 << 10));
    expect((await client.read(0n, payload.length)).data.equals(payload)).toBe(true);
  },
  KEYS_MS,
);

test(
  "create= with a passphrase makes an image with LUKS, whose disk has the size",
  async () => {
    const name = `made${++images}`;
    const server = await startServer([...words(name, PASSPHRASE), "create=20M"], {
      startMs: START_MS,
    });
    const client = await connect(server);
    expect(client.sizeBytes).toBe(BigInt(20 * MIB));
    const payload = randomBytes(4096);
    const end = BigInt(20 * MIB - payload.length);
    expect((await client.request({ type: CMD.WRITE, offset: end, payload })).error).toBe(0);
    await client.disconnect();
    await server.stop();

    const raw = join(temporaryDirectory(), "raw");
    await ceph.run("rbd", "export", "--no-progress", `rbd/${name}`, raw);
    const ciphertext = readFileSync(raw);
    expect(ciphertext.subarray(0, 8)).toEqual(Buffer.from("LUKS\xba\xbe\x00\x02", "latin1"));
    expect(ciphertext.includes(payload.subarray(0, 512))).toBe(false);

    const again = await startServer([...words(name, PASSPHRASE), "create=30M"], {
      startMs: START_MS,
    });
    const reader = await connect(again);
    expect(reader.sizeBytes).toBe(BigInt(20 * MIB)); // it is there already
    expect((await reader.read(end, payload.length)).data.equals(payload)).toBe(true);
  },
  KEYS_MS,
);

/** A server that is to make the image, killed so long after it has begun to. */
async function killWhileMaking(name: string, words: readonly string[], afterMs: number) {
  const before = await ceph.run("rbd", "ls", "rbd");
  const [command, ...options] = [...asyncnbd, "-f", "-U", "-", ...words] as [string, ...string[]];
  const server = spawn(command, options, { stdio: "ignore", env: serverEnvironment() });
  const ended = once(server, "exit");
  await eventually("an unfinished image", async () => {
    const names = (await ceph.run("rbd", "ls", "rbd")).trim().split("\n");
    return names.find((one) => one.startsWith(`${name}.new-`) && !before.includes(one));
  });
  await sleep(afterMs);
  server.kill("SIGKILL");
  await ended;
}

test(
  "a server that is killed while it makes an image with LUKS leaves none that cannot be opened",
  async () => {
    const name = `made${++images}`;
    const parameters = [...words(name, PASSPHRASE), "create=20M"];
    for (const afterMs of [0, 1000]) {
      await killWhileMaking(name, parameters, afterMs);
      expect((await ceph.run("rbd", "ls", "rbd")).split("\n")).not.toContain(name);
    }
    const server = await startServer(parameters, { startMs: START_MS });
    const client = await connect(server);
    expect(client.sizeBytes).toBe(BigInt(20 * MIB));
    const payload = randomBytes(4096);
    expect((await client.request({ type: CMD.WRITE, payload })).error).toBe(0);
    expect(server.stderr()).toMatch(
      new RegExp(`warning: the image rbd/${name}.new-[0-9a-f]{8} is unfinished: .*rbd rm rbd/`),
    );
    await client.disconnect();
    await server.stop();
  },
  KEYS_MS,
);

test(
  "two servers that make one image with LUKS at the same time serve the same",
  async () => {
    const name = `made${++images}`;
    const parameters = [...words(name, PASSPHRASE), "create=20M"];
    const start = () => startServer(parameters, { startMs: START_MS });
    const [one, other] = await Promise.all([start(), start()]);
    const payload = randomBytes(4096);
    const client = await connect(one);
    expect((await client.request({ type: CMD.WRITE, payload })).error).toBe(0);
    await client.disconnect();
    expect((await (await connect(other)).read(0n, 4096)).data.equals(payload)).toBe(true);
    expect(await ceph.run("rbd", "ls", "rbd")).not.toContain(`${name}.new-`);
  },
  KEYS_MS,
);

test(
  "a wrong passphrase and an image without LUKS are refused at the start with one line",
  async () => {
    const refusal = async (name: string, passphrase: string): Promise<string> => {
      const stderr = await refusalOf(words(name, passphrase));
      expect(stderr).not.toContain(passphrase);
      return stderr;
    };
    const name = await makeImage("luks1");
    expect(await refusal(name, "battery staple")).toBe(
      `asyncnbd: error: cannot unlock the image rbd/${name}: the passphrase is wrong\n`,
    );
    const plain = await makeImage();
    expect(await refusal(plain, PASSPHRASE)).toBe(
      `asyncnbd: error: cannot unlock the image rbd/${plain}: ` +
        "it has no LUKS header; leave out passphrase=\n",
    );
  },
  KEYS_MS,
);
