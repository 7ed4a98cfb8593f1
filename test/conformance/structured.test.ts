// "Structured reply chunk message", rule by rule, against a real server.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { CHUNK, CMD, ERRNO, EXPORT_FLAG, FLAG, OPT, REP } from "../support/protocol.js";
import { RawClient } from "../support/raw-client.js";
import { startServer, temporaryDirectory } from "../support/server.js";
import { contextQueries } from "../support/strict-client.js";
import { ask, connected, errorOf, typesOf } from "../support/structured-client.js";

const { STRUCTURED_REPLY, LIST_META_CONTEXT } = OPT;
const { ACK, ERR_UNSUP, ERR_INVALID } = REP;
const { READ, WRITE, TRIM } = CMD;
const { DF } = FLAG;
const { SEND_DF } = EXPORT_FLAG;
const { OFFSET_DATA } = CHUNK;
const { EIO, EINVAL, ENOSPC } = ERRNO;

const SIZE = 1 << 20;

describe("NBD_OPT_STRUCTURED_REPLY", () => {
  test("takes no data", async () => {
    const server = await startServer(["memory", "1M"]);
    const client = await RawClient.connect(server.socket);
    await client.greet();
    expect(typesOf(await ask(client, STRUCTURED_REPLY, Buffer.alloc(1)))).toEqual([ERR_INVALID]);
    expect(typesOf(await ask(client, STRUCTURED_REPLY))).toEqual([ACK]);
    await server.stop();
  });

  test("alone makes the server offer NBD_CMD_FLAG_DF", async () => {
    const server = await startServer(["memory", "1M"]);
    expect((await connected(server)).flags & SEND_DF).toBe(SEND_DF);
    expect((await connected(server, { structured: false })).flags & SEND_DF).toBe(0);
    await server.stop();
  });

  test("is refused with --no-sr, and meta contexts with it and with --no-mc", async () => {
    const none = await startServer(["memory", "1M"], { options: ["--no-sr"] });
    const client = await RawClient.connect(none.socket);
    await client.greet();
    expect(typesOf(await ask(client, STRUCTURED_REPLY))).toEqual([ERR_UNSUP]);
    const noContexts = await startServer(["memory", "1M"], { options: ["--no-mc"] });
    const other = await RawClient.connect(noContexts.socket);
    await other.greet();
    expect(typesOf(await ask(other, STRUCTURED_REPLY))).toEqual([ACK]);
    expect(typesOf(await ask(other, LIST_META_CONTEXT, contextQueries("")))).toEqual([ERR_UNSUP]);
    await Promise.all([none.stop(), noContexts.stop()]);
  });
});

describe("with structured replies", () => {
  test("a read is answered with its data and offset, DF or not", async () => {
    const server = await startServer(["memory", "1M"]);
    const { client, chunkOf } = await connected(server);
    const payload = Buffer.from("structured");
    expect(await client.request({ type: WRITE, offset: 1000n, payload })).toBe(0);
    for (const flags of [0, DF]) {
      const chunk = await chunkOf({ type: READ, offset: 1000n, length: payload.length, flags });
      expect(chunk.type).toBe(OFFSET_DATA);
      expect(chunk.payload.readBigUInt64BE(0)).toBe(1000n);
      expect(chunk.payload.subarray(8)).toEqual(payload);
    }
    await server.stop();
  });

  test.each([1, 512, 4096, 65_536, 1 << 20])("%i bytes, many in flight", async (length) => {
    const server = await startServer(["memory", "1M"]);
    const { client } = await connected(server);
    const flags = DF; // in one chunk
    for (let i = 0; i < 20; i++)
      client.sendRequest({ type: READ, length, flags, cookie: BigInt(i) });
    const cookies = new Set<bigint>();
    for (let i = 0; i < 20; i++) {
      const { payload, cookie } = await client.readChunk();
      expect(payload.length).toBe(8 + length);
      cookies.add(cookie);
    }
    expect(cookies.size).toBe(20);
    await server.stop();
  });

  test("a read never gets a simple reply, however early it is refused", async () => {
    const server = await startServer(["memory", "1M"]);
    const { chunkOf } = await connected(server);
    expect(errorOf(await chunkOf({ type: READ, offset: BigInt(SIZE), length: 1 })).error).toBe(
      EINVAL,
    );
    expect(errorOf(await chunkOf({ type: READ, length: 1, flags: FLAG.NO_HOLE })).error).toBe(
      EINVAL,
    );
    await server.stop();
  });

  test("other failures are error chunks too", async () => {
    const server = await startServer(["memory", "1M"]);
    const { chunkOf } = await connected(server);
    const payload = Buffer.alloc(10);
    const past = await chunkOf({ type: WRITE, offset: BigInt(SIZE), payload });
    expect(errorOf(past).error).toBe(ENOSPC);
    expect(errorOf(await chunkOf({ type: TRIM, length: 1, flags: DF })).error).toBe(EINVAL);
    expect(errorOf(await chunkOf({ type: 99 })).error).toBe(EINVAL);
    await server.stop();
  });

  test("errors have the plugin's message, in C and in TypeScript", async () => {
    const script = join(temporaryDirectory(), "failing.sh");
    writeFileSync(
      script,
      `case $1 in
        get_size) echo 1M ;;
        pread) echo "EIO the disk is on fire" >&2; exit 1 ;;
        *) exit 2 ;;
      esac`,
      { mode: 0o755 },
    );
    const c = await startServer(["sh", script]);
    const { chunkOf } = await connected(c);
    expect(errorOf(await chunkOf({ type: READ, length: 512 }))).toEqual({
      error: EIO,
      message: expect.stringContaining("the disk is on fire"),
    });
    await c.stop();

    const path = join(temporaryDirectory(), "failing.ts");
    writeFileSync(
      path,
      `import { definePlugin, failure } from "asyncnbd";
       export default definePlugin({
         name: "failing",
         getSize: () => 4096,
         pread() { throw failure("ENOSPC", "no room – anywhere " + "x".repeat(5000)); },
       });`,
    );
    const ts = await startServer([path]);
    const { error, message } = errorOf(
      await (await connected(ts)).chunkOf({ type: READ, length: 1 }),
    );
    expect(error).toBe(ENOSPC);
    expect(message).toMatch(/^no room – anywhere x+$/);
    expect(message.length).toBeLessThan(4096);
    await ts.stop();
  });
});
