// What clients make the server hold besides requests: little, and not for long.

import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { Authority } from "../support/certificates.js";
import { run } from "../support/command.js";
import { residentKib } from "../support/process.js";
import { CMD, OPT } from "../support/protocol.js";
import { encodeRequest, RawClient } from "../support/raw-client.js";
import { eventually, sanitizer, startServer, temporaryDirectory } from "../support/server.js";
import { StrictClient } from "../support/strict-client.js";

const { READ } = CMD;
const KIB = 1024;
const MIB = 2 ** 20;

test("a long option takes no memory before its data comes", async () => {
  const server = await startServer(["memory", "1M"]);
  const before = residentKib(server.pid);
  for (let i = 0; i < 100; i++) {
    const client = await RawClient.connect(server.where);
    await client.greet();
    client.sendOption(OPT.SET_META_CONTEXT, Buffer.alloc(0), MIB);
  }
  expect((residentKib(server.pid) - before) / 1024).toBeLessThan(50);
});

// Compiled for the test: no client of the distribution asks for new keys.
test("requests for new TLS keys are answered even if nothing else is sent", async () => {
  const program = join(temporaryDirectory(), "key-updates");
  const source = fileURLToPath(new URL("../support/key-updates.c", import.meta.url));
  execFileSync("cc", ["-O2", source, "-o", program, "-lssl", "-lcrypto"]);
  const certificates = new Authority().issue("server");
  const options = ["--tls=require", `--tls-certificates=${certificates}`];
  const server = await startServer(["memory", "1M"], { options });
  expect(await run([program, server.socket])).toMatchObject({ status: 0 });
});

// Clients of an asynchronous plugin, each with as much in flight as it may have.
test.skipIf(sanitizer !== undefined)(
  "busy connections have few buffers, and idle ones none",
  async () => {
    const server = await startServer(["delay-memory", "64M", "delay=1ms"]);
    const clients = await Promise.all(
      Array.from({ length: 20 }, () => RawClient.open(server.where)),
    );
    const before = residentKib(server.pid);
    const reads = Array.from({ length: 16 }, (_, i) =>
      encodeRequest({ type: READ, offset: BigInt(i * MIB), length: MIB }),
    );
    for (let turn = 0; turn < 3; turn++)
      await Promise.all(
        clients.map(async (client) => {
          client.send(...reads);
          await client.read(reads.length * (16 + MIB));
        }),
      );
    expect((residentKib(server.pid) - before) / 1024).toBeLessThan(128);
    await eventually("memory has been given back", () =>
      (residentKib(server.pid) - before) / 1024 < 32 ? true : undefined,
    );
  },
);

// A disk of which every other piece of 64 KiB is a hole.
function patchwork(): string {
  const path = join(temporaryDirectory(), "patchwork.mjs");
  const text = `export default {
    name: "patchwork", getSize: () => ${MIB}, open() {}, pread() {}, canExtents: () => true,
    extents(_handle, count, offset) {
      return Array.from({ length: 16 }, (_, i) => ({
        offset: offset + i * 65536, length: 65536, hole: i % 2 === 0, zero: i % 2 === 0,
      }));
    },
  };`;
  writeFileSync(path, text);
  return path;
}

test.skipIf(sanitizer !== undefined).each([
  ["a plugin in C", 32, () => ["memory", "1M"]],
  ["a plugin in TypeScript", 72, () => [patchwork()]], // V8 keeps some of its own
])(
  "block statuses by the thousand that nobody reads take little and leave nothing (%s)",
  async (_what, leftMib, plugin) => {
    const server = await startServer(plugin());
    const observer = await RawClient.open(server.where);
    if (plugin()[0] === "memory")
      for (let at = 0; at < MIB; at += 64 * KIB) {
        const payload = Buffer.alloc(4096, 1);
        expect(await observer.request({ type: CMD.WRITE, offset: BigInt(at), payload })).toBe(0);
      }
    const requests = Array.from({ length: 100_000 }, () =>
      encodeRequest({ type: CMD.BLOCK_STATUS, length: MIB }),
    );
    const before = residentKib(server.pid);
    const heldMib = () => (residentKib(server.pid) - before) / KIB;
    const clients = await Promise.all(
      Array.from({ length: 5 }, () =>
        StrictClient.connect(server.socket, { style: "structured", contexts: ["base:allocation"] }),
      ),
    );
    for (const { raw } of clients) {
      raw.socket.pause();
      raw.send(...requests);
    }
    for (let i = 0; i < 20; i++) {
      observer.sendRequest({ type: READ, length: 512 });
      expect((await observer.readReply()).error).toBe(0);
      await observer.read(512);
      expect(heldMib()).toBeLessThan(128);
      await sleep(100);
    }
    for (const { raw } of clients) raw.socket.destroy();
    await eventually("the memory back", () => (heldMib() < leftMib ? true : undefined));
  },
);
