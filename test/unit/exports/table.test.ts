// Real clients at a table of exports: who is asked about them and when, what names stand for, and who
// waits for whom.

import { expect, onTestFinished, test } from "vitest";
import { clientLimits } from "../../../src/client-limits.js";
import { Chain } from "../../../src/exports/chain.js";
import { Export } from "../../../src/exports/export.js";
import { ExportTable } from "../../../src/exports/table.js";
import type { Parameter } from "../../../src/plugins/life.js";
import type { PluginInstance } from "../../../src/plugins/plugin-instance.js";
import type { Plugin } from "../../../src/plugins/script/definition.js";
import { ScriptPlugin } from "../../../src/plugins/script/script-plugin.js";
import { openListeners } from "../../../src/server/listen.js";
import { Server } from "../../../src/server/server.js";
import { CMD, OPT, REP } from "../../support/protocol.js";
import { goData, RawClient } from "../../support/raw-client.js";

const SETTINGS = {
  readonly: false,
  ...clientLimits({ threads: 4, spinUs: 0, graceMs: 5_000, stallTimeoutMs: 0 }),
  maxInFlightBytes: 2 ** 30,
  maxConnections: Number.POSITIVE_INFINITY,
  handshakeTimeoutMs: 30_000,
  handshakeFlagsMask: 3,
  structuredReplies: true,
  extendedHeaders: true,
  metaContexts: true,
  tls: "off",
  tlsContext: undefined,
  oldstyle: false,
  shortcuts: true,
} as const;

async function start(plugin: PluginInstance, parameters: readonly Parameter[] = []) {
  const started = new Export(await Chain.of(plugin, []));
  await started.load();
  await started.getReady(parameters);
  await started.afterFork();
  return started;
}

/** A disk of this size, which notes what it is asked. */
function noting(calls: string[], name: string, sizeBytes: number, more: Partial<Plugin> = {}) {
  const definition: Plugin = {
    name,
    preconnect: () => {
      calls.push(`${name} preconnect`);
      return true;
    },
    open: ({ exportName }) => {
      calls.push(`${name} open ${exportName}`);
      return {};
    },
    close: () => {
      calls.push(`${name} close`);
    },
    getSize: () => sizeBytes,
    pread: (_handle, buf) => {
      buf.fill(0);
    },
    ...more,
  };
  return new ScriptPlugin(definition, name);
}

/** Serves the table. Returns the path of its socket, and its end. */
function serve(exports: Record<string, Export>) {
  const table = new ExportTable(new Map(Object.entries(exports)));
  const server = new Server(table, SETTINGS, () => {});
  const listeners = openListeners({ kind: "private-unix" });
  server.listen(listeners.fds);
  let stopped: Promise<boolean> | undefined;
  const stop = () => {
    stopped ??= server.stop();
    return stopped;
  };
  onTestFinished(async () => {
    expect(await stop()).toBe(true);
    listeners.cleanUp();
    for (const one of Object.values(exports)) await one.end();
  });
  return { path: listeners.endpoint.kind === "unix" ? listeners.endpoint.path : "", stop, table };
}

/** NBD_OPT_INFO or NBD_OPT_GO: the size, or the error. */
async function ask(client: RawClient, option: number, name: string): Promise<bigint | number> {
  client.sendOption(option, goData(name));
  let size = 0n;
  for (;;) {
    const { type, data } = await client.readOptionReply();
    if (type === REP.ACK) return size;
    if (type !== REP.INFO) return type;
    if (data.readUInt16BE(0) === 0) size = data.readBigUInt64BE(2);
  }
}

async function list(client: RawClient): Promise<string[]> {
  const names: string[] = [];
  client.sendOption(OPT.LIST);
  for (;;) {
    const { type, data } = await client.readOptionReply();
    if (type !== REP.SERVER) return names;
    names.push(data.toString("utf8", 4, 4 + data.readUInt32BE(0)));
  }
}

async function greeted(path: string): Promise<RawClient> {
  const client = await RawClient.connect(path);
  await client.greet();
  return client;
}

test("a single export has all names, and is asked about a client before the greeting", async () => {
  const calls: string[] = [];
  const { path } = serve({ "": await start(noting(calls, "only", 512)) });
  const client = await greeted(path);
  expect(calls).toEqual(["only preconnect"]);
  expect(await ask(client, OPT.INFO, "any")).toBe(512n);
  expect(await ask(client, OPT.GO, "")).toBe(512n);
  expect(calls.slice(1)).toEqual(["only open any", "only close", "only open "]);
});

test("one export that rejects a client ends it before the greeting", async () => {
  const { path } = serve({ "": await start(noting([], "only", 512, { preconnect: () => false })) });
  const client = await RawClient.connect(path);
  expect(await client.closed()).toHaveLength(0);
});

test("of several exports, a client gets the one it names, which is asked about it only then", async () => {
  const calls: string[] = [];
  const { path } = serve({
    a: await start(noting(calls, "one", 512)),
    b: await start(noting(calls, "two", 1024)),
  });
  const client = await greeted(path);
  expect(await list(client)).toEqual(["a", "b"]);
  expect(await ask(client, OPT.INFO, "c")).toBe(REP.ERR_UNKNOWN);
  expect(calls).toEqual([]);

  expect(await ask(client, OPT.INFO, "b")).toBe(1024n);
  expect(await ask(client, OPT.GO, "b")).toBe(1024n);
  expect(calls.splice(0)).toEqual(["two preconnect", "two open b", "two close", "two open b"]);
  expect(await client.request({ type: CMD.READ, length: 512 })).toBe(0);

  const other = await greeted(path);
  expect(await ask(other, OPT.GO, "")).toBe(512n); // the first is the default
  expect(calls).toEqual(["one preconnect", "one open a"]);
});

test("of several exports, one may reject a client that another accepts", async () => {
  const calls: string[] = [];
  const { path } = serve({
    a: await start(noting(calls, "one", 512, { preconnect: () => false })),
    b: await start(noting(calls, "two", 1024)),
  });
  const client = await greeted(path);
  expect(await ask(client, OPT.INFO, "a")).toBe(REP.ERR_UNKNOWN);
  expect(await ask(client, OPT.GO, "b")).toBe(1024n);
  expect(calls).toEqual(["two preconnect", "two open b"]);
});

test("a client may look at several exports, in C and in TypeScript, before it opens one", async () => {
  const memory = async (size: string) => {
    const opened = new Export(
      await Chain.open({ plugin: "memory", filters: ["cow"], watch: false }),
    );
    await opened.load();
    await opened.getReady([["size", size]]);
    await opened.afterFork();
    return opened;
  };
  const script = await start(noting([], "script", 512));
  const { path, stop } = serve({ a: await memory("1M"), b: script, c: await memory("2M") });
  const client = await greeted(path);
  for (const [name, size] of [
    ["a", 2n ** 20n],
    ["b", 512n],
    ["c", 2n ** 21n],
    ["a", 2n ** 20n],
    ["b", 512n],
  ] as const)
    expect(await ask(client, OPT.INFO, name)).toBe(size);
  expect(await ask(client, OPT.GO, "c")).toBe(2n ** 21n);
  const payload = Buffer.alloc(512, 7);
  expect(await client.request({ type: CMD.WRITE, offset: 2n ** 21n - 512n, payload })).toBe(0);
  client.sendRequest({ type: CMD.READ, offset: 2n ** 21n - 512n, length: 512 });
  expect((await client.readReply()).error).toBe(0);
  expect(await client.read(512)).toEqual(payload);
  expect(await stop()).toBe(true);
});

test("each export has its own queue of clients that it serves one by one", async () => {
  const model = { threadModel: "serialize_connections" } as const;
  const calls: string[] = [];
  const { path } = serve({
    a: await start(noting(calls, "one", 512, model)),
    b: await start(noting(calls, "two", 1024, model)),
  });
  const [first, second, third] = [await greeted(path), await greeted(path), await greeted(path)];
  expect(await ask(first, OPT.GO, "a")).toBe(512n);
  expect(await ask(second, OPT.GO, "b")).toBe(1024n); // which nobody has open
  const waiting = ask(third, OPT.GO, "a");
  expect(await second.request({ type: CMD.READ, length: 512 })).toBe(0);
  expect(calls.filter((call) => call === "one open a")).toHaveLength(1);
  first.socket.destroy();
  expect(await waiting).toBe(512n);
  const atOne = calls.filter((call) => call.startsWith("one") && !call.endsWith("preconnect"));
  expect(atOne).toEqual(["one open a", "one close", "one open a"]);
});

test("an export has drained when its last client has left", async () => {
  const { path, table } = serve({
    a: await start(noting([], "one", 512)),
    b: await start(noting([], "two", 512)),
  });
  const one = table.find("a")?.export as Export;
  const two = table.find("b")?.export as Export;
  const client = await greeted(path);
  await ask(client, OPT.GO, "a");
  expect(await two.drained()).toBe(true);
  let isOver = false;
  const drained = one.drained().then((isUnused) => {
    isOver = true;
    return isUnused;
  });
  expect(await client.request({ type: CMD.READ, length: 0 })).not.toBe(0);
  expect(isOver).toBe(false);
  client.socket.destroy();
  expect(await drained).toBe(true);
});
