// asyncnbd/client against servers: ours, nbdkit, qemu-nbd and nbd-server.

import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { describe, expect, onTestFinished, test } from "vitest";
import {
  type Client,
  ConnectionError,
  type ConnectOptions,
  connect,
  type Extent,
  exportInfo,
  listExports,
  NbdError,
} from "../../src/client/index.js";
import { definePlugin } from "../../src/plugins/script/definition.js";
import { serve } from "../../src/server/serve.js";
import { Authority, preSharedKeys } from "../support/certificates.js";
import { blocksOf } from "../support/documents.js";
import {
  DISK_BYTES,
  type Peer,
  startAsyncnbd,
  startNbdkit,
  startNbdServer,
  startQemuNbd,
} from "../support/peers.js";
import { randomOf } from "../support/random.js";
import { nbdkit, sanitizer, startServer } from "../support/server.js";

const MIB = 2 ** 20;
const root = fileURLToPath(new URL("../../", import.meta.url));

const STYLES: readonly [string, ConnectOptions][] = [
  ["simple", { structuredReplies: false, extendedHeaders: false }],
  ["structured", { extendedHeaders: false }],
  ["extended", {}],
];

async function opened(peer: Peer, options: ConnectOptions = {}): Promise<Client> {
  const client = await connect(peer.uri, options);
  onTestFinished(() => client.destroy());
  return client;
}

async function extentsOf(client: Client, ...range: [number?, number?]): Promise<Extent[]> {
  const extents: Extent[] = [];
  for await (const extent of client.blockStatus(...range)) extents.push(extent);
  return extents;
}

const pattern = (length: number, seed: number): Buffer => {
  const random = randomOf(seed);
  return Buffer.from(Array.from({ length }, () => random(256)));
};

/** toEqual() takes long to compare what is long. */
const same = (actual: Buffer, expected: Buffer): void => expect(actual.equals(expected)).toBe(true);

/** Everything that the server offers, and what it has done. */
async function useAll(client: Client): Promise<void> {
  expect(client.size).toBe(DISK_BYTES);
  const data = pattern(100_000, 1);
  await client.write(65536, data);
  if (client.canFua) await client.write(4 * MIB, data.subarray(0, 512), { fua: true });
  same(await client.read(65536, data.length), data);
  if (client.canFlush) await client.flush();
  if (client.canCache) await client.cache(0, MIB);
  if (client.canReadWhole)
    same(await client.read(65536, 8192, { whole: true }), data.subarray(0, 8192));
  if (client.canZero) {
    await client.zero(65536, 4096, { noHole: true });
    same(await client.read(65536, 4096), Buffer.alloc(4096));
    await client.zero(131072, 4096);
    same(await client.read(131072, 4096), Buffer.alloc(4096));
  }
  if (client.canTrim) await client.trim(4 * MIB, MIB);
  if (client.contexts.length === 0) return;
  const extents = await extentsOf(client);
  expect(extents[0]?.offset).toBe(0);
  for (const [index, { offset, length, flags }] of extents.entries()) {
    const next = extents[index + 1];
    expect(offset + length).toBe(next?.offset ?? DISK_BYTES);
    expect(flags).not.toBe(next?.flags);
  }
}

/** Overlapping neither reads nor writes in flight: the model knows what is there. */
async function agreesWithModel(client: Client): Promise<void> {
  const random = randomOf(3);
  const model = Buffer.alloc(DISK_BYTES);
  for (let round = 0; round < 8; round++) {
    const slots = Array.from({ length: 64 }, (_, slot) => slot * 65536);
    await Promise.all(
      slots.map(async (at) => {
        const length = 512 * (1 + random(96));
        if (random(2) === 0)
          return same(await client.read(at, length), model.subarray(at, at + length));
        const data = Buffer.alloc(length, random(256));
        data.copy(model, at);
        return client.write(at, data);
      }),
    );
  }
  same(await client.read(0, DISK_BYTES), model);
}

const PEERS: readonly [string, () => Promise<Peer>, string][] = [
  ["asyncnbd", () => startAsyncnbd(), "extended"],
  ["asyncnbd over TCP", () => startAsyncnbd("tcp"), "extended"],
  ["nbdkit", () => startNbdkit(), "structured"],
  ["qemu-nbd", () => startQemuNbd(), "structured"],
  ["nbd-server", startNbdServer, "structured"],
];

describe.each(PEERS)("against %s", (name, start, best) => {
  test.each(STYLES)("every command works with replies that are %s", async (style, options) => {
    const client = await opened(await start(), options);
    const expected = style === "simple" ? "simple" : style === "structured" ? client.replies : best;
    if (name !== "nbd-server") expect(client.replies).toBe(expected);
    await useAll(client);
    await client.close();
    await expect(client.read(0, 512)).rejects.toThrow(ConnectionError);
  });

  test("many requests in flight agree with a model", async () => {
    const client = await opened(await start());
    await agreesWithModel(client);
    await client.close();
  });

  test("exports are listed and described", async () => {
    const peer = await start();
    const exportName = name === "nbd-server" ? "disk" : "";
    expect((await listExports(peer.uri)).map((one) => one.name)).toContain(exportName);
    const info = await exportInfo(peer.uri).catch((error: unknown) => error);
    if (info instanceof NbdError) expect(info.code).toBe("NBD_REP_ERR_UNSUP");
    else expect(info).toMatchObject({ exportName, canWrite: true });
    // nbd-server tells the size only to those who enter.
    if (name !== "nbd-server") expect(info).toMatchObject({ sizeBytes: DISK_BYTES });
  });
});

test("qemu-nbd's own contexts are listed and can be queried", async () => {
  const peer = await startQemuNbd("--allocation-depth");
  expect((await exportInfo(peer.uri)).contexts).toContain("qemu:allocation-depth");
  const client = await opened(peer, { contexts: ["base:allocation", "qemu:allocation-depth"] });
  await client.write(0, Buffer.alloc(65536, 1));
  const depths: bigint[] = [];
  const all = client.blockStatus(0, DISK_BYTES, { context: "qemu:allocation-depth" });
  for await (const { flags } of all) depths.push(flags);
  expect(depths).toContain(1n);
  expect((await extentsOf(client)).map(({ isHole }) => isHole)).toEqual([false, true]);
  await client.close();
});

describe("an export that does not exist", () => {
  test.each(PEERS)("of %s is refused by name", async (_, start) => {
    const { uri } = await start();
    const error = await connect(uri, { exportName: "nosuch" }).then(
      (client) => client.close(),
      (failed: unknown) => failed,
    );
    // nbdkit's and our file have no names: any will do.
    if (error !== undefined)
      expect((error as { code?: string }).code).toMatch(/NBD_REP_ERR_UNKNOWN|ECONNRESET/);
  });
});

test("connecting to no server fails with a code and the address", async () => {
  const path = "/nonexistent/socket";
  await expect(connect({ path })).rejects.toMatchObject({
    name: "ConnectionError",
    code: "ENOENT",
  });
  await expect(connect({ path })).rejects.toThrow(path);
});

test.each([
  ["http://localhost/", /not an NBD scheme/],
  ["nbd+unix:///x", /needs the socket's path/],
  ["nbd+vsock://1", /no vsock/],
  ["nbd:", /no host/],
  ["disk.img", /not a URI/],
])("%s is refused as a target", async (uri, words) => {
  await expect(connect(uri)).rejects.toThrow(words);
});

describe("TLS", () => {
  const secure = (...options: string[]) => ({ options: ["--tls=require", ...options] });

  test.each([
    ["asyncnbd", undefined],
    ["nbdkit", nbdkit],
  ])("with certificates: %s", async (_, command) => {
    const authority = new Authority();
    const directory = authority.issue("server");
    const server = await startServer(["memory", "8M"], {
      ...secure(`--tls-certificates=${directory}`),
      transport: command === undefined ? "tcp" : "unix",
      ...(command !== undefined && { command }),
    });
    const uri = server.uri.replace(/\?tls.*/, "").replace(/^nbd([:+])/, "nbds$1");
    const client = await opened({ uri }, { tls: { certificates: directory } });
    expect(client.isEncrypted).toBe(true);
    await agreesWithModel(client);
    await client.close();
    await expect(connect(uri)).rejects.toThrow(/TLS: /); // it is nobody's that Node knows
    await expect(connect(uri.replace("nbds", "nbd"))).rejects.toMatchObject({
      code: "NBD_REP_ERR_TLS_REQD",
    });
    const other = { certificates: directory, serverName: "elsewhere.example" };
    await expect(connect(uri, { tls: other })).rejects.toThrow(/TLS: .*elsewhere/);
  });

  test.each([
    ["asyncnbd", undefined],
    ["nbdkit", nbdkit],
  ])("with pre-shared keys: %s", async (_, command) => {
    const file = preSharedKeys("alice", "bob");
    const server = await startServer(["memory", "8M"], {
      ...secure(`--tls-psk=${file}`),
      ...(command !== undefined && { command }),
    });
    const uri = `nbds+unix://bob@/?socket=${server.socket}&tls-psk-file=${file}`;
    const client = await opened({ uri: uri.replace("bob@/", "bob@localhost/") });
    expect(client.isEncrypted).toBe(true);
    await agreesWithModel(client);
    await client.close();
    const wrong = preSharedKeys("alice", "bob");
    const tls = { preSharedKeys: wrong, username: "bob" };
    await expect(connect({ path: server.socket }, { tls })).rejects.toThrow(/TLS: /);
  });

  test("is never left out if it was asked for", async () => {
    const server = await startServer(["memory", "1M"], { options: ["--tls=off"] });
    const uri = server.uri.replace("nbd", "nbds");
    await expect(connect(uri)).rejects.toMatchObject({ operation: "NBD_OPT_STARTTLS" });
  });
});

describe("a server in this process", () => {
  test("needs no socket", async () => {
    await using server = await serve({
      plugin: "memory",
      config: { size: "8M" },
      listen: "nothing",
    });
    await using client = await connect({ server }, { connections: 2 });
    expect(client.connections).toBe(2);
    await agreesWithModel(client);
  });

  test("can be reached by a descriptor", async () => {
    await using server = await serve({
      plugin: "memory",
      config: { size: "8M" },
      listen: "nothing",
    });
    await using client = await connect({ fd: server.connectPair() });
    await agreesWithModel(client);
  });

  test("fails requests with the plugin's words", async () => {
    const plugin = definePlugin({
      name: "full",
      getSize: () => 65536,
      pread: () => {
        throw Object.assign(new Error("the disk is tired"), { code: "ENOMEM" });
      },
      pwrite: () => {
        throw Object.assign(new Error("the quota is used up"), { code: "ENOSPC" });
      },
    });
    await using server = await serve({ plugin, listen: "nothing" });
    await using client = await connect({ server });
    const error = await client.write(512, Buffer.alloc(512)).catch((failed: unknown) => failed);
    expect(error).toBeInstanceOf(NbdError);
    expect(error).toMatchObject({ code: "ENOSPC", operation: "write" });
    expect(error).toMatchObject({ serverMessage: expect.stringContaining("quota") });
    await expect(client.read(0, 512)).rejects.toMatchObject({ code: "ENOMEM" });
  });
});

describe("requests that make no sense", () => {
  test("are refused before they are sent", async () => {
    const { uri } = await startServer(["memory", "1M"]);
    await using client = await connect(uri);
    await expect(client.read(MIB - 512, 1024)).rejects.toThrow(RangeError);
    await expect(client.read(-1, 1)).rejects.toThrow(TypeError);
    await expect(client.read(0.5, 1)).rejects.toThrow(TypeError);
    await expect(client.write(MIB, Buffer.alloc(1))).rejects.toThrow(RangeError);
    expect(() => client.blockStatus(0, 512, { context: "no:such" })).toThrow(NbdError);
    expect(await client.read(0, 0)).toHaveLength(0);
  });

  test("are not offered by a read-only export", async () => {
    const { uri } = await startServer(["memory", "1M"], { options: ["-r"] });
    await using client = await connect(uri);
    expect(client).toMatchObject({ canWrite: false, canTrim: false, canZero: false });
    await expect(client.write(0, Buffer.alloc(512))).rejects.toMatchObject({ code: "ENOTSUP" });
    await expect(client.trim(0, 512)).rejects.toMatchObject({ code: "ENOTSUP" });
  });
});

describe.skipIf(sanitizer !== undefined)("the module", () => {
  test("is used as the documentation shows", async () => {
    const { uri } = await startServer(["memory", "1M"]);
    const [block] = blocksOf("docs/client.md");
    const text = (block?.text ?? "")
      .replace("nbd://localhost/disk", uri)
      .replace("asyncnbd/client", "./dist/client/index.js");
    const args = ["--input-type=module", "-e", text];
    const printed = execFileSync("node", args, { cwd: root, encoding: "utf8" });
    expect(printed).toContain("base:allocation");
    expect(printed).toContain("32768 1015808 hole");
  });

  test("loads no native code", () => {
    const script = `
      import "./dist/client/index.js";
      const { sharedObjects } = process.report.getReport();
      process.stdout.write(String(sharedObjects.filter((o) => o.endsWith(".node")).length));`;
    const args = ["--input-type=module", "-e", script];
    expect(execFileSync("node", args, { cwd: root, encoding: "utf8" })).toBe("0");
  });
});
