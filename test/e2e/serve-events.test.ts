// What a program hears of the clients of its server, and whether they keep it alive.

import { expect, test } from "vitest";
import { NBD_REQUEST_MAGIC } from "../../src/protocol.js";
import { joined, u32 } from "../support/bytes.js";
import { program } from "../support/program.js";
import { OPT } from "../support/protocol.js";
import { encodeOption } from "../support/raw-client.js";
import { testPlugin } from "../support/server.js";

/** For a program: an expression for these bytes. */
const expression = (bytes: Buffer): string => `Buffer.from("${bytes.toString("hex")}", "hex")`;
/** From the greeting into the default export. */
const ENTER = expression(joined([u32(3), encodeOption(OPT.EXPORT_NAME)]));
const HALF_REQUEST = expression(u32(NBD_REQUEST_MAGIC));

/** Records all events of a server. */
const RECORD = `
  const record = (server) => {
    const seen = { connection: [], open: [], disconnection: [] };
    for (const name of Object.keys(seen)) server.on(name, (client) => seen[name].push(client));
    return seen;
  };
`;

test("a client's peer, export, requests and end are told", async () => {
  await program(`${RECORD}
    const plugin = { ...ram(), defaultExport: () => "main" };
    const server = await serve({ plugin, config: { size: "1M" }, listen: { port: 0, host: "127.0.0.1" } });
    const seen = record(server);
    const gone = once(server, "disconnection");
    await sh(\`qemu-io -f raw -c 'write 0 64k' -c 'read 0 4k' '\${server.uri}'\`);
    await gone;
    const [connected] = seen.connection;
    assert.equal(connected.number, 1);
    assert.equal(connected.peer.kind, "tcp");
    assert.equal(connected.peer.address, "127.0.0.1");
    assert.ok(connected.peer.port > 0);
    assert.deepEqual(seen.open, [{ ...connected, exportName: "main", isTls: false }]);
    const { requests, durationMs, ...end } = seen.disconnection[0];
    assert.ok(requests >= 2 && durationMs > 0);
    assert.deepEqual(end, { ...seen.open[0], reason: "client", detail: undefined,
      failedRequests: 0, readBytes: 4096, writtenBytes: 65536, inFlight: 0 });
    await server.close();`);
});

test("a client on a unix socket is a process of a user", async () => {
  await program(`${RECORD}
    const server = await serve({ plugin: ram(), config: { size: "1M" } });
    const seen = record(server);
    const client = connect(server.endpoint.path);
    await once(client, "data");
    assert.deepEqual(seen.connection[0].peer,
      { kind: "unix", processId: process.pid, userId: process.getuid() });
    client.destroy();
    const [{ reason, exportName, isTls }] = await once(server, "disconnection");
    assert.deepEqual({ reason, exportName, isTls }, { reason: "client", exportName: undefined, isTls: false });
    await server.close();`);
});

test("the disconnection event has the reason", async () => {
  await program(`${RECORD}
    const next = async (server) => (await once(server, "disconnection"))[0];
    const greeted = async (server) => {
      const client = connect(server.endpoint.path);
      client.on("error", () => {});
      await once(client, "data");
      return client;
    };
    const plugin = { ...ram(), open(info) {
      if (info.exportName !== "") throw failure("EINVAL", "no such disk");
      return Buffer.alloc(4096);
    } };
    const server = await serve({ plugin, config: { size: "4k" }, stallTimeoutMs: 200 });
    const refused = next(server);
    await assert.rejects(sh(\`nbdinfo --size 'nbd+unix:///x?socket=\${server.endpoint.path}'\`));
    assert.equal((await refused).reason, "refused");

    const odd = await greeted(server);
    odd.write("rubbish that is no option at all");
    const end = await next(server);
    assert.equal(end.reason, "refused");
    assert.match(end.detail, /./);

    // NBD_OPT_EXPORT_NAME with "", and half of a request.
    const slow = await greeted(server);
    slow.write(${ENTER});
    await once(slow, "data");
    slow.write(${HALF_REQUEST});
    assert.equal((await next(server)).reason, "stalled");

    const left = await greeted(server);
    left.write(${ENTER});
    await once(left, "data");
    left.write(${HALF_REQUEST}, () => left.destroy());
    assert.equal((await next(server)).reason, "failed");

    await greeted(server);
    const stopped = next(server);
    await server.close();
    assert.equal((await stopped).reason, "stopped");

    const hasty = await serve({ plugin, config: { size: "4k" }, handshakeTimeoutMs: 50 });
    const late = next(hasty);
    await greeted(hasty);
    assert.equal((await late).reason, "timeout");
    await hasty.close();`);
});

test("clients on worker threads cause the same events", async () => {
  await program(`${RECORD}
    const { writeFileSync } = await import("node:fs");
    const path = process.argv[1].replace(/[^/]*$/, "disk.mjs");
    writeFileSync(path, "export default { name: 'disk', getSize: () => 4096, pread: (_h, buf) => { buf.fill(1); } };");
    const server = await serve({ plugin: path, workers: 2 });
    const seen = record(server);
    const gone = once(server, "disconnection");
    await sh(\`qemu-io -r -f raw -c 'read 0 512' '\${server.uri}'\`);
    await gone;
    assert.equal(seen.connection[0].peer.kind, "unix");
    assert.equal(seen.open[0].exportName, "");
    assert.equal(seen.disconnection[0].reason, "client");
    assert.equal(seen.disconnection[0].readBytes, 512);
    await server.close();`);
});

test("a listener that throws or rejects harms neither the server nor other listeners", async () => {
  await program(`
    const server = await serve({ plugin: ram(), config: { size: "1M" } });
    const heard = [];
    for (const name of ["connection", "open", "disconnection", "close"]) {
      server.on(name, () => { throw new Error("mine"); });
      server.on(name, async () => { throw new Error("mine"); });
      server.on(name, () => heard.push(name));
    }
    assert.equal((await sh(\`nbdinfo --size '\${server.uri}'\`)).trim(), "1048576");
    await server.close();
    assert.deepEqual([...new Set(heard)], ["connection", "open", "disconnection", "close"]);`);
});

test.each([
  ["in TypeScript", "ram()"],
  ["in C", JSON.stringify(testPlugin("memory"))],
])(
  "after unref(), a server of a plugin %s and its clients do not keep the process alive",
  async (_, plugin) => {
    const stdout = await program(`
    const { Socket } = await import("node:net");
    const server = await serve({ plugin: ${plugin}, config: { size: "1M" } });
    const opened = once(server, "open");
    // One in its handshake, and one beyond.
    const greeted = connect(server.endpoint.path);
    await once(greeted, "data");
    const client = connect(server.endpoint.path);
    await once(client, "data");
    client.write(${ENTER});
    await opened;
    assert.equal(server.unref(), server);
    greeted.unref();
    client.unref();
    process.on("exit", () => console.log("ends with", server.getStats().connections));`);
    expect(stdout).toBe("ends with 2\n");
  },
);

test.each([
  ["a client's export in C", testPlugin("noisy"), "{ open: 30 }", 1],
  [
    "a client that waits for its turn",
    testPlugin("memory"),
    "{ size: '1M', serialize: 'connections' }",
    2,
  ],
])("after unref(), the opening of %s does not keep the process alive", async (...row) => {
  const [, plugin, config, clients] = row;
  const stdout = await program(`
    const server = await serve({ plugin: ${JSON.stringify(plugin)}, config: ${config},
      filters: ${clients} > 1 ? ["noparallel"] : [] });
    const dial = async () => {
      const client = connect(server.endpoint.path);
      await once(client, "data");
      client.write(${ENTER});
      await new Promise((resolve) => setTimeout(resolve, 300));
      client.unref();
    };
    for (let i = 0; i < ${clients}; i++) await dial();
    server.unref();
    const begun = performance.now();
    process.on("exit", () => console.log(performance.now() - begun < 5000 ? "soon" : "late"));`);
  expect(stdout).toBe("soon\n");
});

test("ref() undoes unref(), and close() keeps the process alive until the plugin has ended", async () => {
  const stdout = await program(`
    const plugin = { ...ram(), async cleanup() {
      await new Promise((resolve) => setTimeout(resolve, 20));
      await sh("true");
      console.log("cleaned up");
    } };
    const server = await serve({ plugin, config: { size: "1M" } });
    server.unref().ref();
    setTimeout(() => server.unref().close(), 50).unref();`);
  expect(stdout).toBe("cleaned up\n");
});

test("a closed server listens to its signal no longer", async () => {
  await program(`
    const { getEventListeners } = await import("node:events");
    const { signal } = new AbortController();
    const server = await serve({ plugin: ram(), config: { size: "1M" }, signal });
    assert.equal(getEventListeners(signal, "abort").length, 1);
    await server.close();
    assert.equal(getEventListeners(signal, "abort").length, 0);`);
});
