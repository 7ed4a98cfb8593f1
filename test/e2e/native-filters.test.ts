// Native filters and middleware in one chain, in any order, in front of plugins in C and TypeScript.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { runOk } from "../support/command.js";
import { MIB } from "../support/fixtures.js";
import { RawClient } from "../support/raw-client.js";
import { eventually, startServer, temporaryDirectory } from "../support/server.js";

const WRITE = 1;
const READ_ONLY_FLAG = 1 << 1;

/** A module that serves a disk of bytes 7, behind middleware. */
function diskModule(front = "disk"): string {
  const path = join(temporaryDirectory(), "disk.ts");
  writeFileSync(
    path,
    `import { definePlugin } from "asyncnbd";
     import { log, readonly } from "asyncnbd/middleware";
     const bytes = Buffer.alloc(${MIB}, 7);
     const disk = definePlugin({
       name: "disk",
       getSize: () => bytes.length,
       exportDescription: () => "seven",
       blockSize: () => ({ minimum: 512, preferred: 4096, maximum: 65536 }),
       pread: (_h, buf, offset) => { bytes.copy(buf, 0, offset); },
       pwrite: (_h, buf, offset) => { buf.copy(bytes, offset); },
     });
     const told = log((line) => console.error("told: " + line));
     export default ${front};`,
  );
  return path;
}

/** Middleware that sees reads, as a filter of the command line. */
function ownFilter(): string {
  const path = join(temporaryDirectory(), "told.ts");
  writeFileSync(
    path,
    `import { log } from "asyncnbd/middleware";
     export default log((line) => console.error("told: " + line));`,
  );
  return path;
}

const read = async (client: RawClient, offset = 0, length = 512): Promise<Buffer> => {
  expect(await client.request({ type: 0, offset: BigInt(offset), length })).toBe(0);
  return client.read(length);
};

const seven = Buffer.alloc(512, 7);

describe("readonly", () => {
  test.each<[string, (own: string) => readonly string[], number, boolean]>([
    ["in front of a plugin in C", () => ["--filter=readonly", "pattern", "1M"], 0, false],
    ["in front of one in TypeScript", () => ["--filter=readonly", diskModule()], 7, false],
    ["made by a module", () => [diskModule("readonly()(disk)")], 7, false],
    ["behind middleware, over C", (own) => [own, "--filter=readonly", "pattern", "1M"], 0, true],
    [
      "behind middleware, over TypeScript",
      (own) => [own, "--filter=readonly", diskModule()],
      7,
      true,
    ],
    ["in a module, behind middleware", () => [diskModule("told(readonly()(disk))")], 7, true],
    ["over middleware over C", (own) => ["--filter=readonly", own, "pattern", "1M"], 0, true],
    ["over middleware over TypeScript", (own) => ["--filter=readonly", own, diskModule()], 7, true],
    [
      "twice, with middleware between",
      (own) => ["--filter=readonly", own, "--filter=readonly", diskModule()],
      7,
      true,
    ],
  ])("%s lets reads through and refuses writes", async (_name, args, byte, isTold) => {
    const server = await startServer(args(`--filter=${ownFilter()}`));
    const client = await RawClient.connect(server.socket);
    const { flags } = await client.go();
    expect(flags & READ_ONLY_FLAG).toBe(READ_ONLY_FLAG);
    const data = await read(client, 8, 512);
    if (byte === 7) expect(data).toEqual(seven);
    else expect(data.readBigUInt64BE(0)).toBe(8n);
    const written = { type: WRITE, offset: 0n, length: 512, payload: seven };
    expect(await client.request(written)).toBe(1); // EPERM
    if (isTold)
      await eventually("word of the read", () =>
        server.stderr().includes("told: pread id=1 offset=8 count=512 ok") ? true : undefined,
      );
    await server.stop();
  });
});

test("descriptions and block sizes come through a native filter", async () => {
  const server = await startServer(["--filter=readonly", diskModule()]);
  const info = await runOk(["nbdinfo", "--no-content", server.uri]);
  expect(info).toContain("description: seven");
  expect(info).toContain("block_size_minimum: 512");
  expect(info).toContain("block_size_maximum: 65536");
  await server.stop();
});
