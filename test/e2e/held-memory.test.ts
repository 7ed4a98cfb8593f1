// What clients make the server hold besides requests: little, and not for long.

import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { Authority } from "../support/certificates.js";
import { run } from "../support/command.js";
import { residentKib } from "../support/process.js";
import { encodeRequest, RawClient } from "../support/raw-client.js";
import { eventually, sanitizer, startServer, temporaryDirectory } from "../support/server.js";

const READ = 0;
const MIB = 2 ** 20;

test("what options announce takes no memory before it has come", async () => {
  const server = await startServer(["memory", "1M"]);
  const before = residentKib(server.pid);
  for (let i = 0; i < 100; i++) {
    const client = await RawClient.connect(server.where);
    await client.greet();
    client.sendOption(10, Buffer.alloc(0), MIB);
  }
  expect((residentKib(server.pid) - before) / 1024).toBeLessThan(50);
});

// Compiled for the test: no client of the distribution asks for new keys.
test("requests for new TLS keys are answered though nothing else is sent", async () => {
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
  "buffers of busy connections are few, and go when those are idle",
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
