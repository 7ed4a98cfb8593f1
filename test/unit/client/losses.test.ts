// What becomes of a client and its requests when connections are lost at the worst moments, and
// what servers and programs can do to it.

import { getEventListeners } from "node:events";
import { readFileSync } from "node:fs";
import type { Socket } from "node:net";
import { join } from "node:path";
import { connect as connectTls, createServer as createTlsServer } from "node:tls";
import { describe, expect, onTestFinished, test } from "vitest";
import { Dispatcher } from "../../../src/client/dispatcher.js";
import type { ExportFacts } from "../../../src/client/facts.js";
import {
  type ConnectOptions,
  connect,
  exportInfo,
  listExports,
} from "../../../src/client/index.js";
import { Request } from "../../../src/client/request.js";
import { takeStatus } from "../../../src/client/status-chunk.js";
import { tlsOptions } from "../../../src/client/tls.js";
import { joined, u32 } from "../../support/bytes.js";
import { Authority, preSharedKeys } from "../../support/certificates.js";
import { CHUNK, CMD, OPT, REP } from "../../support/protocol.js";
import { eventually } from "../../support/server.js";
import {
  opened,
  optionReply,
  right,
  startWrongServer,
  type WireRequest,
} from "../../support/wrong-server.js";

const { GO, LIST } = OPT;

const never = new Promise<never>(() => {});
const answer = (request: WireRequest): Buffer => right(request, "extended");

describe("losing one of three connections while the others are opened", () => {
  /** The second ends when it is open; only then the third is let in. */
  const losing = async (options: ConnectOptions) => {
    let letIn = (): void => {};
    let waits = false;
    const order: Socket[] = [];
    const server = await startWrongServer({
      admit: (index) => {
        if (index !== 2) return undefined;
        waits = true;
        return new Promise<void>((resolve) => {
          letIn = resolve;
        });
      },
      option: (option, _, socket) => {
        if (!order.includes(socket)) order.push(socket);
        if (option === GO && order.indexOf(socket) === 1) process.nextTick(() => socket.end());
        return undefined;
      },
    });
    const connecting = connect(
      { path: server.path },
      {
        ...options,
        connections: 3,
        extendedHeaders: false,
      },
    );
    connecting.catch(() => {}); // the test will
    await eventually("the loss", () => (waits && order[1]?.closed) || undefined);
    letIn();
    return { connecting, server };
  };

  test("takes no requests, and is replaced", async () => {
    const { connecting } = await losing({ reconnect: { delayMs: 1 } });
    const client = await connecting;
    onTestFinished(() => client.destroy());
    await Promise.all(Array.from({ length: 6 }, (_, index) => client.read(512 * index, 512)));
    await eventually("the third", () => client.connections === 3 || undefined);
  });

  test("fails connect() without a policy, which leaves nothing open", async () => {
    const { connecting, server } = await losing({});
    await expect(connecting).rejects.toMatchObject({ code: "ECONNRESET" });
    await eventually("the end", () => server.sockets.size === 0 || undefined);
  });
});

describe("a connection that is lost", () => {
  test("while a client closes does not affect another one's write", async () => {
    const writes: [WireRequest, Socket][] = [];
    const { client, server } = await opened(
      {
        reply: (request, socket) => {
          writes.push([request, socket]);
          return undefined;
        },
      },
      { connections: 2 },
    );
    const write = client.write(0, Buffer.alloc(512));
    await eventually("the write", () => writes.length === 1 || undefined);
    const closed = client.close();
    const [[request, busy]] = writes as [[WireRequest, Socket]];
    for (const socket of server.sockets) if (socket !== busy) socket.destroy();
    await eventually("the loss", () => client.connections === 1 || undefined);
    busy.write(answer(request));
    await write;
    await closed;
  });

  test("hands its read to another one at once", async () => {
    let isFirst = true;
    const { client } = await opened(
      {
        admit: (index) => (index >= 2 ? never : undefined),
        reply: (request, socket) => {
          if (!isFirst) return answer(request);
          isFirst = false;
          socket.destroy();
          return undefined;
        },
      },
      { connections: 2, reconnect: true },
    );
    expect(await client.read(0, 512)).toEqual(Buffer.alloc(512, 7));
    expect(client.connections).toBe(1);
  });

  test("and cannot be replaced leaves the others", async () => {
    let isFirst = true;
    const { client, server } = await opened(
      {
        reply: (request, socket) => {
          if (!isFirst) return answer(request);
          isFirst = false;
          socket.destroy();
          return undefined;
        },
      },
      { connections: 2, reconnect: { attempts: 2, delayMs: 1 } },
    );
    let refused = 0;
    server.server.removeAllListeners("connection");
    server.server.on("connection", (socket: Socket) => {
      refused++;
      socket.once("close", () => refused++);
      socket.destroy();
    });
    await client.read(0, 512);
    await eventually("both attempts", () => refused === 4 || undefined);
    for (let turn = 0; turn < 10; turn++) await client.read(0, 512);
    expect(client.connections).toBe(1);
  });

  test("with a request again and again ends that request", async () => {
    let requests = 0;
    const { client } = await opened(
      {
        reply: ({ offset }, socket) => {
          if (offset === 512n) requests++;
          socket.destroy();
          return undefined;
        },
      },
      { reconnect: { attempts: 2, delayMs: 1 } },
    );
    await expect(client.read(512, 512)).rejects.toMatchObject({ code: "ECONNRESET" });
    expect(requests).toBe(3); // once, and two times again
  });

  test("is reported to a function that throws, and still replaced", async () => {
    const thrown: Error[] = [];
    process.setUncaughtExceptionCaptureCallback((error) => thrown.push(error));
    onTestFinished(() => process.setUncaughtExceptionCaptureCallback(null));
    let isFirst = true;
    const onLost = (): never => {
      throw new Error("the log is full");
    };
    const { client } = await opened(
      {
        reply: (request, socket) => {
          if (!isFirst) return answer(request);
          isFirst = false;
          socket.destroy();
          return undefined;
        },
      },
      { reconnect: { delayMs: 1, onLost } },
    );
    expect(await client.read(0, 512)).toHaveLength(512);
    expect(thrown.map(({ message }) => message)).toEqual(["the log is full"]);
  });
});

test("waiting between attempts leaves no listeners behind", async () => {
  const listeners: number[] = [];
  const limits = { maxInFlight: 1, maxInFlightBytes: 1 };
  const dispatcher = new Dispatcher(limits, { attempts: 20, delayMs: 0 }, async (_, signal) => {
    listeners.push(getEventListeners(signal, "abort").length);
    throw new Error("there is nobody");
  });
  const gone = { endedBy: new Error("gone") } as Parameters<Dispatcher["add"]>[0];
  dispatcher.add(gone);
  await eventually("the last", () => dispatcher.error);
  expect(listeners).toEqual(Array.from({ length: 20 }, () => 0));
});

test("a server that ends its side and reads no more is a lost connection", async () => {
  const { client, server } = await opened({ sizeBytes: () => 2 ** 25 });
  const [socket] = server.sockets;
  socket?.pause();
  const write = client.write(0, Buffer.alloc(2 ** 24));
  socket?.end();
  await expect(write).rejects.toMatchObject({ code: "ECONNRESET" });
});

test.each([
  ["listExports", listExports],
  ["exportInfo", exportInfo],
])("%s disconnects from a server that does not close", async (_, ask) => {
  const info = joined([Buffer.alloc(2), Buffer.alloc(8), Buffer.from([0, 1])]);
  const server = await startWrongServer({
    staysOpen: true,
    option: (option) =>
      option === 6
        ? joined([optionReply(OPT.INFO, REP.INFO, info), optionReply(OPT.INFO, REP.ACK)])
        : undefined,
  });
  await ask({ path: server.path });
  // Whether a client is still there shows when one writes to it.
  const timer = setInterval(() => {
    for (const socket of server.sockets) socket.write("x");
  }, 10);
  onTestFinished(() => clearInterval(timer));
  await eventually("the end", () => server.sockets.size === 0 || undefined);
});

test("a list of very many exports is refused, even with short names", async () => {
  const entry = optionReply(LIST, REP.SERVER, joined([u32(60), Buffer.alloc(60, "a")])); // 17 MB of them
  const entries = joined(Array.from({ length: 270_000 }, () => entry));
  const { path } = await startWrongServer({
    option: (option) =>
      option === LIST ? joined([entries, optionReply(LIST, REP.ACK)]) : undefined,
  });
  await expect(listExports({ path })).rejects.toMatchObject({ rule: "option-reply-length" });
});

test("only the requested number of descriptors is kept for each context", () => {
  const facts = {
    contexts: new Map([
      ["base:allocation", 1],
      ["x:y", 2],
    ]),
    blockSizes: { minimum: 1, preferred: 4096, maximum: 2 ** 25 },
    sizeBytes: 4096,
  } as unknown as ExportFacts;
  const request = new Request(
    CMD.BLOCK_STATUS,
    0,
    0,
    4096,
    undefined,
    false,
    () => {},
    undefined,
    2,
  );
  const chunk = (id: number, flags: number): Buffer => joined([id, 4096, flags].map(u32));
  takeStatus(request, CHUNK.BLOCK_STATUS, chunk(1, 3), facts);
  expect(request.status).toBeUndefined();
  takeStatus(request, CHUNK.BLOCK_STATUS, chunk(2, 1), facts);
  request.checkWhole(new Set([1, 2]));
  expect(request.status?.flags).toEqual(new BigUint64Array([1n]));
  expect(() => takeStatus(request, CHUNK.BLOCK_STATUS, chunk(1, 3), facts)).toThrow(
    "one status chunk",
  );
});

describe("arguments that make no sense reject", () => {
  test("a read in one piece longer than a request can express", async () => {
    const { client } = await opened(
      { sizeBytes: () => 2 ** 33 },
      { extendedHeaders: false, connections: 1 },
    );
    await expect(client.read(0, 2 ** 32, { whole: true })).rejects.toThrow(RangeError);
    expect(client).toMatchObject({ inFlight: 0, waiting: 0 });
    await client.close();
  });

  test("a read larger than any buffer", async () => {
    const { client } = await opened({ sizeBytes: () => Number.MAX_SAFE_INTEGER });
    await expect(client.read(0, client.size)).rejects.toThrow(RangeError);
  });

  test.each<[string, unknown]>([
    ["a text", "hello"],
    ["wider numbers", new Uint16Array(512)],
    ["nothing", undefined],
    ["a list", [1, 2, 3]],
  ])("%s instead of bytes", async (_, bytes) => {
    const { client } = await opened({});
    await expect(client.write(0, bytes as Buffer)).rejects.toThrow(TypeError);
    await expect(client.read(0, bytes as Buffer)).rejects.toThrow(TypeError);
  });

  test("wrong targets", async () => {
    await expect(listExports("nbd:x:y:")).rejects.toThrow(TypeError);
    await expect(exportInfo({} as { path: string })).rejects.toThrow(TypeError);
  });
});

describe("a pre-shared key", () => {
  const identities = () => {
    const file = preSharedKeys("alice");
    const key = readFileSync(file, "utf8").trim().split(":")[1] as string;
    const directory = new Authority().issue("server");
    const pem = (name: string): Buffer => readFileSync(join(directory, name));
    return { file, psk: Buffer.from(key, "hex"), pem };
  };
  type Identities = ReturnType<typeof identities>;

  /** Resolves with the version that was agreed on. */
  async function greeted({ file, pem }: Identities, options: object): Promise<string | null> {
    const server = createTlsServer(options, (socket) => socket.on("error", () => {}));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as { port: number };
    const how = tlsOptions({ preSharedKeys: file, username: "alice" }, "localhost");
    const ca = pem("ca-cert.pem"); // as if the system trusted it
    const socket = connectTls({ ...how, ca, port, host: "127.0.0.1" });
    onTestFinished(() => {
      socket.destroy();
      server.close();
    });
    return new Promise((resolve, reject) => {
      socket.once("error", reject);
      socket.once("secureConnect", () => resolve(socket.getProtocol()));
    });
  }

  test.each(["TLSv1.2", "TLSv1.3"] as const)("authenticates the server (%s)", async (version) => {
    const ours = identities();
    const ciphers = "TLS_AES_128_GCM_SHA256:PSK";
    const options = { pskCallback: () => ours.psk, ciphers, maxVersion: version };
    expect(await greeted(ours, options)).toBe(version);
  });

  test("cannot be replaced by a trusted certificate", async () => {
    const ours = identities();
    const options = { key: ours.pem("server-key.pem"), cert: ours.pem("server-cert.pem") };
    await expect(greeted(ours, options)).rejects.toThrow("does not know the pre-shared key");
  });
});
