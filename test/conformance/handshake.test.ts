// Raw bytes against a real server's handshake: garbage at every stage, stalls, clients that leave.

import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { IHAVEOPT } from "../../src/protocol.js";
import { u32, u64 } from "../support/bytes.js";
import { runOk } from "../support/command.js";
import { openDescriptors } from "../support/process.js";
import { CMD, OPT, REP } from "../support/protocol.js";
import { encodeOption, encodeRequest, goData, RawClient } from "../support/raw-client.js";
import { eventually, startServer, temporaryDirectory } from "../support/server.js";

const { ERR_UNSUP } = REP;

describe("a server in a handshake", () => {
  test("survives garbage at every stage and still serves", async () => {
    const server = await startServer(["memory", "1M"]);
    const garbage = Buffer.alloc(4096, 0xa5);
    const stages: ((client: RawClient) => Promise<void>)[] = [
      async () => {},
      async (client) => void (await client.read(18)),
      async (client) => void (await client.greet()),
      async (client) => {
        await client.greet();
        client.sendOption(OPT.LIST);
        await client.readOptionReply();
      },
      async (client) => void (await client.go()),
    ];
    for (const reach of stages) {
      const client = await RawClient.connect(server.socket);
      await reach(client);
      client.send(garbage);
      await client.closed();
    }
    const client = await RawClient.connect(server.socket);
    expect((await client.go()).sizeBytes).toBe(1048576n);
    await server.stop();
  });

  test("closes for a client that leaves at any byte", async () => {
    const server = await startServer(["memory", "1M"]);
    const before = openDescriptors(server.pid);
    const bytes = Buffer.concat([u32(3), encodeOption(OPT.GO, goData(""))]);
    for (let length = 0; length <= bytes.length; length++) {
      const client = await RawClient.connect(server.socket);
      client.send(bytes.subarray(0, length));
      client.socket.end();
      await client.closed();
    }
    await eventually("closing of all descriptors", () =>
      openDescriptors(server.pid) <= before ? true : undefined,
    );
    await server.stop();
  });

  test("understands options that arrive byte by byte", async () => {
    const server = await startServer(["memory", "1M"]);
    const client = await RawClient.connect(server.socket);
    await client.read(18);
    const bytes = Buffer.concat([u32(3), encodeOption(0x99, Buffer.from("abc"))]);
    client.socket.setNoDelay(true);
    for (const byte of bytes) client.send(Buffer.from([byte]));
    expect((await client.readOptionReply()).type).toBe(ERR_UNSUP);
    await server.stop();
  });

  test("takes requests that come in the same packet as NBD_OPT_GO", async () => {
    const server = await startServer(["memory", "1M"]);
    const client = await RawClient.connect(server.socket);
    await client.read(18);
    const flush = encodeRequest({ type: CMD.FLUSH, cookie: 0x1122334455667788n });
    client.send(u32(3), encodeOption(OPT.GO, goData("")), flush);
    expect((await client.readOptionReply()).type).toBe(REP.INFO);
    expect((await client.readOptionReply()).type).toBe(REP.ACK);
    expect(await client.readReply()).toEqual({ error: 0, cookie: 0x1122334455667788n });
    await server.stop();
  });

  test("skips the data of an unknown option, however it arrives, and goes on", async () => {
    const server = await startServer(["memory", "1M"]);
    const client = await RawClient.connect(server.socket);
    await client.greet();
    client.sendOption(0x1234, Buffer.alloc(3_000_000));
    expect(await client.readOptionReply()).toMatchObject({ option: 0x1234, type: ERR_UNSUP });
    client.sendOption(OPT.ABORT);
    expect((await client.readOptionReply()).type).toBe(REP.ACK);
    expect(await client.closed()).toHaveLength(0);
    await server.stop();
  });

  test("closes only the connection of a client that stalls", async () => {
    const server = await startServer(["memory", "1M"], { options: ["--timeout", "300ms"] });
    const accepted = await RawClient.connect(server.socket);
    await accepted.go();
    const silent = await RawClient.connect(server.socket);
    const halfway = await RawClient.connect(server.socket);
    await halfway.greet();
    halfway.send(u64(IHAVEOPT));
    await Promise.all([silent.closed(), halfway.closed()]);
    expect(await accepted.request({ type: CMD.FLUSH })).toBe(0);
    await server.stop();
  });

  test("serves others while a hundred clients stall", async () => {
    const server = await startServer(["memory", "1M"]);
    for (let i = 0; i < 100; i++) await RawClient.connect(server.socket);
    const client = await RawClient.connect(server.socket);
    await client.go();
    expect(await client.request({ type: CMD.FLUSH })).toBe(0);
    await server.stop();
  });
});

describe("the oldstyle protocol", () => {
  test("sends size and flags at once, and serves", async () => {
    const server = await startServer(["memory", "1M"], { options: ["-o"] });
    const client = await RawClient.connect(server.socket);
    const greeting = await client.read(152);
    expect(greeting.toString("latin1", 0, 8)).toBe("NBDMAGIC");
    expect(greeting.readBigUInt64BE(8)).toBe(0x00420281861253n);
    expect(greeting.readBigUInt64BE(16)).toBe(1n << 20n);
    expect(greeting.readUInt16BE(24)).toBe(0); // of global flags there are none
    expect(greeting.readUInt16BE(26) & 1).toBe(1);
    expect(greeting.subarray(28)).toEqual(Buffer.alloc(124));
    const payload = Buffer.from("old");
    expect(await client.request({ type: CMD.WRITE, offset: 7n, payload })).toBe(0);
    expect(await client.request({ type: CMD.READ, offset: 7n, length: 3 })).toBe(0);
    expect(await client.read(3)).toEqual(payload);
    await server.stop();
  });

  test("serves libnbd", async () => {
    const server = await startServer(["memory", "3M"], { options: ["--oldstyle"] });
    expect(await runOk(["nbdinfo", "--size", server.uri])).toBe("3145728\n");
    expect(await runOk(["nbdinfo", server.uri])).toContain("protocol: oldstyle");
    await server.stop();
  });

  test("closes the connection if the export cannot be opened", async () => {
    const disk = join(temporaryDirectory(), "gone");
    writeFileSync(disk, "");
    const server = await startServer(["file", disk], { options: ["-o"] });
    rmSync(disk);
    const client = await RawClient.connect(server.socket);
    expect(await client.closed()).toEqual(Buffer.alloc(0));
    await server.stop();
  });
});
