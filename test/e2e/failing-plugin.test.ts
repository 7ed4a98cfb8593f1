// A plugin that fails in any callback: a message for the operator, an NBD error for the client.

import { describe, expect, test } from "vitest";
import { CMD, ERRNO, OPT, REP } from "../support/protocol.js";
import { RawClient } from "../support/raw-client.js";
import { refusalOf } from "../support/refusal.js";
import { eventually, runAsyncnbd, startServer, testPlugin } from "../support/server.js";

const { ERR_UNKNOWN, ERR_PLATFORM } = REP;
const { EIO, EINVAL, ENOSPC } = ERRNO;

describe("a failure before serving", () => {
  test.each(["config_complete", "thread_model", "get_ready", "after_fork"])(
    "in %s ends the server with status 1 and the plugin's reason",
    async (callback) => {
      const plugin = [testPlugin("probe"), `fail=${callback}`];
      expect(await refusalOf(plugin)).toBe(`asyncnbd: error: ${callback} was told to fail\n`);
    },
  );

  test("without a reason says which callback failed", async () => {
    const plugin = [testPlugin("probe"), "fail=get_ready", "fail-errno=5"];
    expect(await refusalOf(plugin)).toContain('plugin "probe": get_ready failed');
  });

  test("in the background is the launcher's failure too", async () => {
    const plugin = [testPlugin("probe"), "fail=get_ready"];
    const { status, stderr } = await runAsyncnbd(["-p", "0", ...plugin]);
    expect(status).toBe(1);
    expect(stderr).toContain("get_ready was told to fail");
  });
});

describe("a failure in the handshake", () => {
  test.each(["default_export", "open", "get_size", "can_write", "can_fua"])(
    "in %s refuses the export, and the client may go on",
    async (callback) => {
      const server = await startServer([testPlugin("probe"), `fail=${callback}`]);
      const client = await RawClient.connect(server.socket);
      await client.greet();
      for (let i = 0; i < 2; i++) {
        client.sendOption(OPT.GO, Buffer.alloc(6));
        expect((await client.readOptionReply()).type).toBe(ERR_UNKNOWN);
      }
      client.sendOption(OPT.ABORT);
      expect((await client.readOptionReply()).type).toBe(REP.ACK);
      await server.stop();
      expect(server.stderr()).toMatch(new RegExp(`probe\\[\\d+\\]: error: ${callback} was told`));
    },
  );

  test("in list_exports is NBD_REP_ERR_PLATFORM", async () => {
    const server = await startServer([testPlugin("probe"), "fail=list_exports"]);
    const client = await RawClient.connect(server.socket);
    await client.greet();
    client.sendOption(OPT.LIST);
    expect((await client.readOptionReply()).type).toBe(ERR_PLATFORM);
    await server.stop();
  });

  test("in preconnect turns the client away", async () => {
    const server = await startServer([testPlugin("probe"), "fail=preconnect"]);
    const client = await RawClient.connect(server.socket);
    expect(await client.closed()).toHaveLength(0);
    await server.stop();
  });
});

describe("a failing request", () => {
  test.each([
    ["pread", 0, 0, EIO],
    ["pread", 0, ENOSPC, ENOSPC],
    ["pwrite", 1, 122 /* EDQUOT */, ENOSPC],
    ["pwrite", 1, 30 /* EROFS */, 1],
    ["pwrite", 1, 2 /* ENOENT */, EINVAL],
    ["flush", 3, EIO, EIO],
    ["trim", 4, 95 /* EOPNOTSUPP */, EINVAL],
  ])(
    "%s (command %d, errno %d) is answered with error %d, and the next is served",
    async (callback, type, errno, error) => {
      const failure = [`fail=${callback}`, ...(errno === 0 ? [] : [`fail-errno=${errno}`])];
      const server = await startServer([testPlugin("probe"), ...failure]);
      const client = await RawClient.connect(server.socket);
      await client.go();
      const request = type === CMD.FLUSH ? { type } : { type, length: 512 };
      const payload = type === CMD.WRITE ? { payload: Buffer.alloc(512) } : {};
      expect(await client.request({ ...request, ...payload })).toBe(error);
      expect(await client.request({ type: 99 })).toBe(EINVAL);
      await server.stop();
      expect(server.stderr()).toMatch(
        /probe\[\d+\]: error: \w+ offset=0 count=\d+: .*; client was sent E/,
      );
    },
  );

  test("does not fill the log, however often it fails", async () => {
    const server = await startServer([testPlugin("probe"), "fail=pread", "fail-errno=5"]);
    const client = await RawClient.connect(server.socket);
    await client.go();
    for (let i = 0; i < 100; i++)
      expect(await client.request({ type: CMD.READ, length: 1, cookie: BigInt(i) })).toBe(EIO);
    await server.stop();
    expect(server.stderr().trim().split("\n")).toHaveLength(10);
    expect(server.stderr()).toContain("further failures");
  });
});

test("a plugin that calls nbdkit_shutdown stops the server after the reply", async () => {
  const server = await startServer([testPlugin("probe"), "shutdown-on=flush"]);
  const client = await RawClient.connect(server.socket);
  await client.go();
  expect(await client.request({ type: CMD.FLUSH })).toBe(0);
  expect(await client.closed()).toHaveLength(0);
  const { status } = await server.ended;
  expect(status).toBe(0);
  await eventually("removal of the socket", async () => {
    const { existsSync } = await import("node:fs");
    return existsSync(server.socket) ? undefined : true;
  });
});
