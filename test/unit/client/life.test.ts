// What a client does when servers are slow, gone or hostile.

import { readFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { TLSSocket } from "node:tls";
import { describe, expect, onTestFinished, test } from "vitest";
import { connect, NbdError } from "../../../src/client/index.js";
import { u16 } from "../../support/bytes.js";
import { Authority } from "../../support/certificates.js";
import { Held, settled } from "../../support/held-replies.js";
import { CMD, OPT, REP } from "../../support/protocol.js";
import { eventually, temporaryDirectory } from "../../support/server.js";
import {
  opened,
  optionReply,
  right,
  startWrongServer,
  type WireRequest,
  type Wrongs,
} from "../../support/wrong-server.js";

const { READ, WRITE } = CMD;

describe("in flight", () => {
  test("are no more requests than allowed, and others wait in order", async () => {
    const held = new Held();
    const { client } = await opened(held, { maxInFlight: 3 });
    const reads = Array.from({ length: 10 }, (_, index) => client.read(512 * index, 512));
    await held.arrived(3);
    expect(client).toMatchObject({ inFlight: 3, waiting: 7 });
    while (client.inFlight > 0) {
      held.release();
      const before = held.requests.length;
      await eventually(
        "more",
        () => held.requests.length > before || client.inFlight === 0 || undefined,
      );
    }
    await Promise.all(reads);
    expect(held.requests.map(({ offset }) => Number(offset) / 512)).toEqual([
      0, 1, 2, 3, 4, 5, 6, 7, 8, 9,
    ]);
  });

  test("are no more bytes than allowed, but always one request", async () => {
    const held = new Held();
    const { client } = await opened(held, { maxInFlightBytes: 4096 });
    const reads = [8192, 512, 512].map((bytes) => client.read(0, bytes));
    await held.arrived(1);
    expect(client).toMatchObject({ inFlight: 1, waiting: 2 });
    held.release();
    await held.arrived(3);
    held.release();
    await Promise.all(reads);
  });
});

describe("a signal", () => {
  test("cancels a waiting request", async () => {
    const held = new Held();
    const { client } = await opened(held, { maxInFlight: 1 });
    const first = client.read(0, 512);
    const controller = new AbortController();
    const second = settled(client.read(512, 512, { signal: controller.signal }));
    const third = client.read(1024, 512);
    await held.arrived(1);
    const reason = new Error("no longer");
    controller.abort(reason);
    expect(await second).toBe(reason);
    held.release();
    await first;
    await held.arrived(2);
    held.release();
    await third;
    expect(held.requests.map(({ offset }) => Number(offset))).toEqual([0, 1024]);
  });

  test("leaves the buffer of a request in flight alone", async () => {
    const held = new Held();
    const { client } = await opened(held);
    const controller = new AbortController();
    const buffer = Buffer.alloc(65536, 1);
    const read = settled(client.read(0, buffer, { signal: controller.signal }));
    await held.arrived(1);
    controller.abort();
    expect(await read).toMatchObject({ name: "AbortError" });
    expect(client.inFlight).toBe(1); // the server knows nothing of it
    held.release();
    const next = client.read(0, 512);
    await held.arrived(2);
    held.release();
    await next;
    expect(buffer.every((byte) => byte === 1)).toBe(true);
  });

  test("that has already fired sends nothing", async () => {
    const held = new Held();
    const { client } = await opened(held);
    const signal = AbortSignal.abort();
    await expect(client.write(0, Buffer.alloc(1), { signal })).rejects.toThrow("aborted");
    expect(held.requests).toHaveLength(0);
  });

  test("ends connecting", async () => {
    const { path } = await startWrongServer({ greeting: Buffer.alloc(0) });
    await expect(connect({ path }, { signal: AbortSignal.timeout(20) })).rejects.toMatchObject({
      name: "TimeoutError",
    });
    await expect(connect({ path }, { connectTimeoutMs: 20 })).rejects.toMatchObject({
      code: "ETIMEDOUT",
    });
  });
});

describe("closing", () => {
  test("waits for requests in flight and for waiting ones", async () => {
    const held = new Held();
    const { client, server } = await opened(held, { maxInFlight: 1 });
    const reads = [client.read(0, 512), client.read(512, 512)];
    const closed = client.close();
    await expect(client.read(0, 512)).rejects.toMatchObject({ code: "ECLOSED" });
    for (let count = 1; count <= 2; count++) {
      await held.arrived(count);
      held.release();
    }
    await Promise.all(reads);
    await closed;
    await eventually("the end", () => server.sockets.size === 0 || undefined);
    expect(await client.close()).toBeUndefined();
  });

  test("at once rejects requests in flight", async () => {
    const held = new Held();
    const { client } = await opened(held);
    const read = settled(client.read(0, 512));
    await held.arrived(1);
    client.destroy();
    expect(await read).toMatchObject({ code: "ECLOSED" });
  });
});

describe("replies", () => {
  test("may come in any order", async () => {
    const requests: WireRequest[] = [];
    const { client } = await opened({
      reply: (request) => {
        requests.push(request);
        if (requests.length < 3) return undefined;
        return Buffer.concat(requests.reverse().map((one) => right(one, "extended")));
      },
    });
    const order: number[] = [];
    await Promise.all([1, 2, 3].map(async (n) => order.push((await client.read(0, n)).length)));
    expect(order).toEqual([3, 2, 1]);
  });

  test.each(["simple", "structured", "extended"])("may come byte by byte (%s)", async (style) => {
    const { client } = await opened(
      {
        reply: (request, socket) => {
          for (const byte of right(request, style)) socket.write(Buffer.of(byte));
          return undefined;
        },
      },
      { structuredReplies: style !== "simple", extendedHeaders: style === "extended" },
    );
    expect(await client.read(512, 100)).toEqual(Buffer.alloc(100, 7));
    await client.write(0, Buffer.alloc(100));
    if (style === "simple") return;
    const extents = [];
    for await (const { offset, length } of client.blockStatus(0, 1024))
      extents.push([offset, length]);
    expect(extents).toEqual([[0, 1024]]);
  });

  test("with errors of values that do not exist count as EINVAL", async () => {
    const { client } = await opened(
      {
        reply: ({ cookie }) => Buffer.concat([Buffer.from("67446698000003e7", "hex"), cookie]),
      },
      { structuredReplies: false, extendedHeaders: false },
    );
    await expect(client.read(0, 512)).rejects.toMatchObject({ name: "NbdError", code: "EINVAL" });
  });

  test("that end early are a lost connection", async () => {
    const { client } = await opened({
      reply: (request, socket) => {
        socket.end(right(request, "extended").subarray(0, 50));
        return undefined;
      },
    });
    await expect(client.read(0, 512)).rejects.toMatchObject({ code: "ECONNRESET" });
  });
});

describe("long requests", () => {
  test("are divided by the largest payload, unless they have none", async () => {
    const requests: [number, number][] = [];
    const { client } = await opened({
      blockSizes: [512, 4096, 10_000],
      reply: (request) => {
        requests.push([request.type, request.length]);
        return right(request, "extended");
      },
    });
    expect((await client.read(0, 20_480)).every((byte) => byte === 7)).toBe(true);
    await client.write(0, Buffer.alloc(20_480));
    await client.zero(0, 65536);
    const parts = [9728, 9728, 1024];
    expect(requests).toEqual([
      ...parts.map((length) => [READ, length]),
      ...parts.map((length) => [WRITE, length]),
      [6, 65536],
    ]);
    await expect(client.read(100, 512)).rejects.toThrow("multiples of 512");
  });
});

describe("TLS", () => {
  const toStartTls = (reply: Buffer): Wrongs => ({
    option: (option) => (option === 5 ? reply : undefined),
  });

  test("never accepts plain text as encrypted", async () => {
    const injected = Buffer.concat([
      optionReply(OPT.STARTTLS, REP.ACK),
      optionReply(OPT.EXTENDED_HEADERS, REP.ACK),
    ]);
    const { path } = await startWrongServer(toStartTls(injected));
    await expect(connect({ path }, { tls: {} })).rejects.toMatchObject({ rule: "tls-plain-text" });
  });

  test("is not requested once it is on", async () => {
    const directory = new Authority().issue("server");
    const files = (name: string): Buffer => readFileSync(join(directory, name));
    const server = createServer((socket) => {
      socket.write(Buffer.concat([Buffer.from("NBDMAGICIHAVEOPT"), u16(3)]));
      socket.on("error", () => {});
      let bytes = 0;
      socket.on("data", (chunk) => {
        bytes += chunk.length;
        if (bytes < 20) return;
        socket.removeAllListeners("data");
        socket.write(optionReply(OPT.STARTTLS, REP.ACK));
        const key = files("server-key.pem");
        const secure = new TLSSocket(socket, {
          isServer: true,
          key,
          cert: files("server-cert.pem"),
        });
        secure.on("error", () => {});
        secure.once("data", () =>
          secure.write(optionReply(OPT.EXTENDED_HEADERS, REP.ERR_TLS_REQD)),
        );
      });
    });
    const path = join(temporaryDirectory(), "sock");
    await new Promise<void>((resolve) => server.listen(path, resolve));
    onTestFinished(() => {
      server.close();
    });
    const tls = { certificates: directory };
    await expect(connect({ path }, { tls })).rejects.toMatchObject({ rule: "tls-required" });
  });
});

test("a server that never stops sending in the handshake is disconnected", async () => {
  const { path } = await startWrongServer({
    option: (option) => (option === OPT.EXTENDED_HEADERS ? Buffer.alloc(2 ** 22) : undefined),
  });
  await expect(connect({ path })).rejects.toThrow();
});

test("requests that a server does not offer are not sent", async () => {
  const { client } = await opened({ flags: 1 });
  const attempts: Promise<unknown>[] = [
    client.flush(),
    client.trim(0, 1),
    client.zero(0, 1),
    client.cache(0, 1),
    client.write(0, Buffer.alloc(1), { fua: true }),
    client.read(0, 1, { whole: true }),
  ];
  for (const attempt of attempts) {
    const error = await settled(attempt);
    expect(error).toBeInstanceOf(NbdError);
    expect(error).toMatchObject({ code: "ENOTSUP" });
  }
});
