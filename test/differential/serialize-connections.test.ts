// A plugin that has one export open at a time, under nbdkit and asyncnbd: who waits, and what the
// plugin sees.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { CMD, OPT, REP } from "../support/protocol.js";
import { goData, RawClient } from "../support/raw-client.js";
import {
  asyncnbd,
  eventually,
  nbdkit,
  type RunningServer,
  startServer,
  temporaryDirectory,
  testPlugin,
} from "../support/server.js";

const READ = { type: CMD.READ, offset: 0n, length: 512 };
const MODEL = "model=0";

interface Plugin {
  readonly server: RunningServer;
  readonly log: () => string;
}

async function start(command: readonly string[], options: readonly string[] = []): Promise<Plugin> {
  const path = join(temporaryDirectory(), "log");
  const args = [testPlugin("probe"), MODEL, `log=${path}`];
  const server = await startServer(args, { command, options });
  return { server, log: () => readFileSync(path, "utf8") };
}

async function readOnce(client: RawClient): Promise<void> {
  expect(await client.request(READ)).toBe(0);
  await client.read(READ.length);
}

async function leave(client: RawClient): Promise<void> {
  await client.leave();
}

/** Resolves with whether the promise has settled by now. */
async function isSettled(promise: Promise<unknown>): Promise<boolean> {
  const no = Symbol("no");
  return (await Promise.race([promise, Promise.resolve(no)])) !== no;
}

describe.each([
  ["nbdkit", nbdkit],
  ["asyncnbd", asyncnbd],
])("%s", (_name, command) => {
  test("a second client cannot use the export until the first has left, and then can", async () => {
    const { server, log } = await start(command);
    const first = await RawClient.open(server.socket);
    const second = await RawClient.connect(server.socket);
    const opened = second.go();
    for (let i = 0; i < 10; i++) await readOnce(first);
    expect(await isSettled(opened)).toBe(false);
    await leave(first);
    await opened;
    await readOnce(second);
    await leave(second);
    await server.stop();
    expect(log()).toContain("inside=1 handles=1");
  });

  test("multi-conn is never offered", async () => {
    const { server } = await start(command);
    const client = await RawClient.connect(server.socket);
    const { flags } = await client.go();
    expect(flags & (1 << 8)).toBe(0);
    await leave(client);
    await server.stop();
  });

  test("many clients at once are served, one after the other", async () => {
    const { server, log } = await start(command);
    await Promise.all(
      Array.from({ length: 12 }, async () => {
        const client = await RawClient.open(server.socket);
        for (let i = 0; i < 5; i++) await readOnce(client);
        await leave(client);
      }),
    );
    await server.stop();
    expect(log()).toContain("inside=1 handles=1");
  });
});

describe("what asyncnbd adds", () => {
  test("a waiting client is greeted and can use options that open nothing", async () => {
    const { server } = await start(asyncnbd);
    const first = await RawClient.open(server.socket);
    const second = await RawClient.connect(server.socket);
    await second.greet();
    second.sendOption(OPT.LIST);
    expect((await second.readOptionReply()).type).toBe(REP.SERVER);
    expect((await second.readOptionReply()).type).toBe(REP.ACK);
    second.sendOption(OPT.GO, goData(""));
    await leave(first);
    while ((await second.readOptionReply()).type !== REP.ACK);
    await leave(second);
    await server.stop();
  });

  test("a client that leaves while it waits leaves the queue", async () => {
    const { server } = await start(asyncnbd, ["--log-clients"]);
    const first = await RawClient.open(server.socket);
    const second = await RawClient.connect(server.socket);
    await second.greet();
    second.sendOption(OPT.GO, goData(""));
    const third = await RawClient.connect(server.socket);
    const opened = third.go();
    second.socket.destroy();
    await eventually("the end of the client that has left", () =>
      /disconnected: while it waited/.test(server.stderr()) ? true : undefined,
    );
    await leave(first);
    await opened;
    await readOnce(third);
    await leave(third);
    await server.stop();
  });

  test("the time that a client waits does not count as its handshake's", async () => {
    const { server } = await start(asyncnbd, ["--timeout=1"]);
    const first = await RawClient.open(server.socket);
    const second = await RawClient.connect(server.socket);
    const opened = second.go();
    const idle = await RawClient.connect(server.socket);
    await idle.closed(); // whose handshake has lasted so long
    await readOnce(first);
    await leave(first);
    await opened;
    await readOnce(second);
    await leave(second);
    await server.stop();
  });

  test("stopping the server ends the waiting", async () => {
    const { server } = await start(asyncnbd);
    const first = await RawClient.open(server.socket);
    const second = await RawClient.connect(server.socket);
    await second.greet();
    second.sendOption(OPT.GO, goData(""));
    const ended = [first.closed(), second.closed()];
    await server.stop();
    await Promise.all(ended);
  });
});
