// Metadata contexts of plugins' own ("Metadata querying"), and block sizes that are enforced.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { CMD, ERRNO, INFO, OPT, REP } from "../support/protocol.js";
import { RawClient } from "../support/raw-client.js";
import { startServer, temporaryDirectory, testPlugin } from "../support/server.js";
import { contextQueries, StrictClient, type StrictOptions } from "../support/strict-client.js";

const SIZE = 1 << 20;

const SCRIPT = `
  const halves = (first, second) => (_, count, offset) => [
    { offset: 0, length: ${SIZE / 2}, flags: first },
    { offset: ${SIZE / 2}, length: ${SIZE / 2}, flags: second },
  ].filter((status) => status.offset + status.length > offset);
  export default {
    name: "contexts",
    getSize: () => ${SIZE},
    pread(_, buf) { buf.fill(1); },
    extents: () => [{ offset: 0, length: ${SIZE}, hole: false, zero: false }],
    blockSize: () => ({ minimum: 4096, preferred: 65536, maximum: 131072 }),
    listExports: () => ["", "plain"],
    metaContexts: {
      "x-test:dirty": { isOffered: ({ exportName }) => exportName !== "plain", status: halves(1, 0) },
      "x-test:owner": { bits: 64, status: halves(7n, 2n ** 63n + 5n) },
      "x-test:broken": { status() { throw new Error("not today"); } },
    },
  };`;

function scriptPath(): string {
  const path = join(temporaryDirectory(), "contexts.mjs");
  writeFileSync(path, SCRIPT);
  return path;
}

const OWN = ["x-test:dirty", "x-test:owner"];

const LAYERS = ["--filter=delay", "--filter=log", "--filter=readonly"];

describe.each([
  ["TypeScript", (front = [], words = []) => startServer([...front, scriptPath(), ...words])],
  [
    "a C plugin with THREAD_MODEL ASYNC",
    (front = [], words = []) => startServer([...front, testPlugin("asynccontexts"), ...words]),
  ],
  [
    "a C plugin behind middleware and native filters",
    (front = [], words = []) =>
      startServer([
        ...front,
        ...LAYERS,
        testPlugin("asynccontexts"),
        "logfile=/dev/null",
        ...words,
      ]),
  ],
  [
    "a plugin in TypeScript behind middleware and native filters",
    (front = [], words = []) =>
      startServer([...front, ...LAYERS, scriptPath(), "logfile=/dev/null", ...words]),
  ],
] satisfies [
  string,
  (front?: readonly string[], words?: readonly string[]) => ReturnType<typeof startServer>,
][])("contexts of %s", (_, start) => {
  const list = async (socket: string, exportName: string, ...queries: string[]) => {
    const client = await RawClient.connect(socket);
    await client.greet();
    client.sendOption(OPT.STRUCTURED_REPLY);
    await client.readOptionReply();
    client.sendOption(OPT.LIST_META_CONTEXT, contextQueries(exportName, ...queries));
    const names: string[] = [];
    for (;;) {
      const { type, data } = await client.readOptionReply();
      if (type !== REP.META_CONTEXT) return { names: names.sort(), end: type };
      expect(data.readUInt32BE(0)).toBe(0);
      names.push(data.toString("utf8", 4));
    }
  };

  test("are listed by name, by namespace, and all of them", async () => {
    const server = await start();
    const dirty = await list(server.socket, "", "x-test:dirty");
    expect(dirty).toEqual({ names: ["x-test:dirty"], end: REP.ACK });
    const namespace = await list(server.socket, "", "x-test:");
    expect(namespace.names).toEqual(["x-test:broken", "x-test:dirty", "x-test:owner"]);
    // One of them has more bits than structured replies can tell.
    expect(namespace.end).toBe(REP.ERR_EXT_HEADER_REQD);
    expect((await list(server.socket, "")).names).toHaveLength(4);
    const unknown = await list(server.socket, "", "x-test:dirt", "y:", "x-test");
    expect(unknown).toEqual({ names: [], end: REP.ACK });
    await server.stop();
  });

  test("may differ between exports", async () => {
    const server = await start();
    expect((await list(server.socket, "plain", "x-test:dirty")).names).toEqual([]);
    const options: StrictOptions = { style: "extended", contexts: OWN, exportName: "plain" };
    const client = await StrictClient.connect(server.socket, options);
    expect([...client.contexts.keys()]).toEqual(["x-test:owner"]);
    await server.stop();
  });

  test("of the default export are those of exportname's default", async () => {
    const server = await start(["--filter=exportname"], ["default-export=plain"]);
    expect((await list(server.socket, "", "x-test:dirty")).names).toEqual([]);
    expect((await list(server.socket, "other", "x-test:dirty")).names).toEqual(["x-test:dirty"]);
    await server.stop();
  });

  test("are answered together, with 64 bits if selected", async () => {
    const server = await start();
    const contexts = ["base:allocation", ...OWN];
    const client = await StrictClient.connect(server.socket, { style: "extended", contexts });
    const { statuses } = await client.request({ type: CMD.BLOCK_STATUS, length: SIZE });
    const of = (name: string) => statuses.get(client.contexts.get(name) as number);
    const half = BigInt(SIZE / 2);
    expect(of("base:allocation")).toEqual([[2n * half, 0n]]);
    expect(of("x-test:dirty")).toEqual([
      [half, 1n],
      [half, 0n],
    ]);
    expect(of("x-test:owner")).toEqual([
      [half, 7n],
      [half, 2n ** 63n + 5n],
    ]);
    const onlyContexts = [client.contexts.get("x-test:dirty") as number];
    const request = { type: CMD.BLOCK_STATUS, offset: 4096n, length: 8192, onlyContexts };
    const one = await client.request(request);
    expect(one.statuses.get(onlyContexts[0] as number)).toEqual([[half - 4096n, 1n]]);
    await server.stop();
  });

  test("of 64 bits are left out if only structured replies were negotiated", async () => {
    const server = await start();
    const client = await StrictClient.connect(server.socket, {
      style: "structured",
      contexts: OWN,
    });
    expect([...client.contexts.keys()]).toEqual(["x-test:dirty"]);
    const { statuses } = await client.request({ type: CMD.BLOCK_STATUS, length: 4096 });
    expect(statuses.size).toBe(1);
    await server.stop();
  });

  test("that fail cause an error, and the connection goes on", async () => {
    const server = await start();
    const contexts = ["base:allocation", "x-test:broken"];
    const client = await StrictClient.connect(server.socket, { style: "extended", contexts });
    const reply = await client.request({ type: CMD.BLOCK_STATUS, length: 4096 });
    expect(reply).toMatchObject({ error: ERRNO.EIO, errorText: "not today" });
    const onlyContexts = [client.contexts.get("base:allocation") as number];
    const good = await client.request({ type: CMD.BLOCK_STATUS, length: 4096, onlyContexts });
    expect(good.error).toBe(0);
    await server.stop();
  });
});

test("middleware in front of a plugin leaves its contexts as they are", async () => {
  const server = await startServer([scriptPath()], {
    options: ["--filter=cow", "--filter=readonly"],
  });
  const client = await StrictClient.connect(server.socket, { style: "extended", contexts: OWN });
  const { statuses } = await client.request({ type: CMD.BLOCK_STATUS, length: 4096 });
  expect(statuses.size).toBe(2);
  await server.stop();
});

describe("block sizes", () => {
  const { BLOCK_SIZE } = INFO;

  test("are enforced for a client that was told of them", async () => {
    const server = await startServer([scriptPath()]);
    const client = await StrictClient.connect(server.socket, { infos: [BLOCK_SIZE] });
    expect(client.infos.get(BLOCK_SIZE)?.readUInt32BE(0)).toBe(4096);
    const errors = await client.requests(
      { type: CMD.READ, offset: 4096n, length: 8192 },
      { type: CMD.READ, offset: 512n, length: 4096 },
      { type: CMD.READ, offset: 0n, length: 4095 },
      { type: CMD.READ, length: 131_072 },
      { type: CMD.READ, length: 135_168 },
    );
    expect(errors.map(({ error }) => error)).toEqual([
      0,
      ERRNO.EINVAL,
      ERRNO.EINVAL,
      0,
      ERRNO.EINVAL,
    ]);
    await server.stop();
  });

  test("are not enforced for a client that has not asked", async () => {
    const server = await startServer([scriptPath()]);
    const client = await StrictClient.connect(server.socket);
    expect((await client.read(1n, 1000)).error).toBe(0);
    await server.stop();
  });
});
