// What requests leave in memory: nobody else's to read, and given back when nobody needs it.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { MIB } from "../support/fixtures.js";
import { passingFilter } from "../support/passing-filter.js";
import { residentKib } from "../support/process.js";
import { CMD } from "../support/protocol.js";
import { encodeRequest, RawClient } from "../support/raw-client.js";
import {
  eventually,
  sanitizer,
  startServer,
  temporaryDirectory,
  testPlugin,
} from "../support/server.js";
import { StrictClient } from "../support/strict-client.js";

const KIB = 1024;
const SECRET = 0x53;

/** A module of a plugin's. */
function plugin(body: string): string {
  const path = join(temporaryDirectory(), "disk.mjs");
  writeFileSync(path, `export default { name: "disk", getSize: () => ${MIB}, ${body} };`);
  return path;
}

/** Only one byte of a read is filled, unless it is in the first 64 KiB. */
const partly = (wait = ""): string => `
  async pread(_handle, buf, offset) { ${wait} buf.fill(${SECRET}, 0, offset < 65536 ? undefined : 1); },
  pwrite() {}`;

async function exchange(client: RawClient, fields: Parameters<RawClient["request"]>[0]) {
  expect(await client.request(fields)).toBe(0);
  return fields.type === CMD.READ ? client.read(fields.length as number) : Buffer.alloc(0);
}

describe.each<[string, () => string[], string[]]>([
  ["a plugin in TypeScript", () => [plugin(partly())], []],
  ["one that takes its time", () => [plugin(partly("await null;"))], []],
  ["one behind a filter", () => [plugin(partly())], [passingFilter()]],
  ["one on several threads", () => [plugin(partly())], ["--workers=1"]],
  ["a plugin in C", () => [testPlugin("partfill")], []],
  ["a plugin in C behind a filter", () => [testPlugin("partfill")], [passingFilter()]],
])("what %s leaves out of a read", (_what, make, filters) => {
  test.each([512, 4 * KIB, 32 * KIB, 200 * KIB])(
    "never shows another client's data, in reads of %d bytes",
    async (length) => {
      const server = await startServer(make(), { options: filters });
      const rich = await RawClient.open(server.socket);
      const poor = await RawClient.open(server.socket);
      const payload = Buffer.alloc(length, SECRET);
      for (let round = 0; round < 3; round++) {
        for (let i = 0; i < 8; i++)
          rich.sendRequest({ type: CMD.WRITE, offset: 0n, payload, cookie: BigInt(i) });
        for (let i = 0; i < 8; i++) expect((await rich.readReply()).error).toBe(0);
        await exchange(rich, { type: CMD.READ, offset: 0n, length });
        const read = await exchange(poor, { type: CMD.READ, offset: BigInt(512 * KIB), length });
        expect(read.subarray(1).every((byte) => byte === 0)).toBe(true);
      }
      rich.socket.destroy(); // what it had is free now
      const read = await exchange(poor, { type: CMD.READ, offset: BigInt(512 * KIB), length });
      expect(read.subarray(1).every((byte) => byte === 0)).toBe(true);
      await server.stop();
    },
  );
});

/** Resident memory comes back to no more than this above what it was. */
const LEFT_KIB = 96 * KIB; // V8 keeps some of its own

test("memory of a burst of requests is freed while the client stays", async () => {
  const path = plugin("pread(_handle, buf) { buf.fill(1); }");
  const server = await startServer([path]);
  const client = await RawClient.open(server.socket);
  const before = residentKib(server.pid);
  for (let i = 0; i < 200; i++) client.sendRequest({ type: CMD.READ, offset: 0n, length: MIB });
  await client.read(200 * (16 + MIB));
  await eventually("the memory back", () =>
    residentKib(server.pid) < before + LEFT_KIB ? true : undefined,
  );
  await server.stop();
});

// AddressSanitizer keeps what was freed.
test.skipIf(sanitizer !== undefined)(
  "unread block statuses take limited memory and leave none behind",
  async () => {
    const path = plugin(`pread() {}, extents(_handle, count, offset) {
    return Array.from({ length: 2048 }, (_, i) => (
      { offset: offset + 512 * i, length: 512, hole: i % 2 === 0, zero: false }));
  }`);
    const server = await startServer([path], { options: ["--max-connection-in-flight=32M"] });
    const { raw } = await StrictClient.connect(server.socket, {
      style: "structured",
      contexts: ["base:allocation"],
    });
    const other = await RawClient.open(server.socket);
    const before = residentKib(server.pid);
    raw.socket.pause();
    for (let i = 0; i < 3000; i++)
      raw.sendRequest({ type: CMD.BLOCK_STATUS, offset: 0n, length: MIB });
    // Each comes behind what the first client has had admitted by then.
    for (let i = 0; i < 5; i++) {
      await exchange(other, { type: CMD.READ, offset: 0n, length: 512 });
      expect(residentKib(server.pid) - before).toBeLessThan(128 * KIB);
    }
    raw.socket.destroy();
    await eventually("the memory back", () =>
      residentKib(server.pid) < before + LEFT_KIB ? true : undefined,
    );
    await server.stop();
  },
);

/** A disk in memory that has the number of its writes in the first byte of each read beyond it. */
const DISK = `
  data: Buffer.alloc(${MIB}), writes: 0,
  getSize() { return 2 * ${MIB}; },
  pread(_handle, buf, offset) {
    if (offset < ${MIB}) this.data.copy(buf, 0, offset);
    else buf[0] = this.writes;
  },
  async pwrite(_handle, buf, offset) {
    this.writes++;
    await null;
    buf.copy(this.data, offset);
  }`;

describe.each<[string, string[]]>([
  ["on the main thread", []],
  ["on several threads", ["--workers=1"]],
  ["behind a native filter", ["--filter=delay"]],
])("large writes received in place, %s", (_where, options) => {
  const LENGTH = 128 * KIB;

  test("arrive whole, however they are cut", async () => {
    const server = await startServer([plugin(DISK)], { options });
    const client = await RawClient.open(server.socket);
    const payloads = Array.from({ length: 8 }, (_, i) => Buffer.alloc(LENGTH, i + 1));
    for (let round = 0; round < 4; round++) {
      for (const [i, payload] of payloads.entries()) {
        payload[LENGTH - 1] = round;
        client.sendRequest({
          type: CMD.WRITE,
          offset: BigInt(i * LENGTH),
          payload,
          cookie: BigInt(i),
        });
      }
      for (let i = 0; i < 8; i++) expect((await client.readReply()).error).toBe(0);
      const all = await exchange(client, { type: CMD.READ, offset: 0n, length: MIB });
      expect(all.equals(Buffer.concat(payloads))).toBe(true);
    }
    await server.stop();
  });

  test("are invisible when only half has come", async () => {
    const server = await startServer([plugin(DISK)], { options });
    const poor = await RawClient.open(server.socket);
    const payload = Buffer.alloc(LENGTH, SECRET);
    for (let round = 1; round < 4; round++) {
      const rich = await Promise.all(
        Array.from({ length: 4 }, () => RawClient.open(server.socket)),
      );
      await exchange(rich[0] as RawClient, { type: CMD.WRITE, offset: 0n, payload });
      for (const client of rich) {
        client.send(encodeRequest({ type: CMD.WRITE, offset: BigInt(LENGTH), length: LENGTH }));
        client.send(payload.subarray(0, LENGTH / 2));
      }
      for (const client of rich) client.socket.destroy();
      for (let i = 0; i < 10; i++) {
        const read = await exchange(poor, { type: CMD.READ, offset: BigInt(MIB), length: LENGTH });
        expect(read[0]).toBe(round);
        expect(read.subarray(1).every((byte) => byte === 0)).toBe(true);
      }
      const unwritten = { type: CMD.READ, offset: BigInt(LENGTH), length: LENGTH };
      expect((await exchange(poor, unwritten)).every((byte) => byte === 0)).toBe(true);
    }
    await server.stop();
  });

  test("do not delay the server's end", async () => {
    const server = await startServer([plugin(DISK)], { options });
    const client = await RawClient.open(server.socket);
    client.send(
      encodeRequest({ type: CMD.WRITE, length: LENGTH }),
      Buffer.alloc(LENGTH / 2, SECRET),
    );
    const other = await RawClient.open(server.socket);
    await exchange(other, { type: CMD.READ, offset: 0n, length: 512 });
    await server.stop();
  });
});
