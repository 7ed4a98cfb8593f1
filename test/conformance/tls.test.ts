// "TLS support": which options are answered before STARTTLS and after it, in each mode; and streams
// that are no TLS.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { Authority } from "../support/certificates.js";
import { expectReads } from "../support/disk-client.js";
import { patternBytes } from "../support/fixtures.js";
import { CMD, ERRNO, OPT, REP } from "../support/protocol.js";
import { encodeOption, goData, RawClient } from "../support/raw-client.js";
import { eventually, startServer } from "../support/server.js";
import { contextQueries, StrictClient } from "../support/strict-client.js";

const start = async (mode: "off" | "on" | "require", ...more: string[]) => {
  const authority = new Authority();
  const certificates = authority.issue("server");
  const options = [`--tls=${mode}`, `--tls-certificates=${certificates}`, ...more];
  return { authority, server: await startServer(["memory", "4M"], { options }) };
};

async function greeted(socket: string): Promise<RawClient> {
  const client = await RawClient.connect(socket);
  await client.greet();
  return client;
}

async function answerTo(client: RawClient, option: number, data?: Uint8Array): Promise<number> {
  client.sendOption(option, data);
  for (;;) {
    const { type } = await client.readOptionReply();
    if (type !== REP.INFO && type !== REP.SERVER && type !== REP.META_CONTEXT) return type;
  }
}

const WITH_DATA: [number, Buffer | undefined][] = [
  [OPT.LIST, undefined],
  [OPT.INFO, goData("")],
  [OPT.GO, goData("")],
  [OPT.STRUCTURED_REPLY, undefined],
  [OPT.LIST_META_CONTEXT, contextQueries("")],
  [OPT.SET_META_CONTEXT, contextQueries("")],
  [OPT.EXTENDED_HEADERS, undefined],
  [77, Buffer.alloc(5)],
];

describe("FORCEDTLS", () => {
  test("answers all options except ABORT and STARTTLS with TLS_REQD, even unknown ones", async () => {
    const { server } = await start("require");
    const client = await greeted(server.socket);
    for (const [option, data] of WITH_DATA)
      expect(await answerTo(client, option, data)).toBe(REP.ERR_TLS_REQD);
    expect(await answerTo(client, OPT.ABORT)).toBe(REP.ACK);
    await server.stop();
  });

  test("ends the connection at EXPORT_NAME", async () => {
    const { server } = await start("require");
    const client = await greeted(server.socket);
    client.sendOption(OPT.EXPORT_NAME);
    expect(await client.closed()).toHaveLength(0);
    await server.stop();
  });

  test("never answers TLS_REQD once TLS is on", async () => {
    const { server } = await start("require");
    const client = await (await greeted(server.socket)).startTls();
    for (const [option, data] of WITH_DATA)
      if (option !== OPT.GO)
        expect(await answerTo(client, option, data)).not.toBe(REP.ERR_TLS_REQD);
    await server.stop();
  });
});

describe("SELECTIVETLS", () => {
  test("serves clients with and without TLS", async () => {
    const { server } = await start("on");
    const plain = await StrictClient.connect(server.socket, { style: "structured" });
    expect((await plain.read(0n, 512)).error).toBe(0);
    const secure = await (await greeted(server.socket)).startTls();
    const client = await StrictClient.connect(secure, { style: "structured" });
    expect((await client.read(0n, 512)).error).toBe(0);
    await server.stop();
  });
});

describe("NOTLS", () => {
  test("refuses STARTTLS by policy, and never answers TLS_REQD", async () => {
    const { server } = await start("off");
    const client = await greeted(server.socket);
    expect(await answerTo(client, OPT.STARTTLS)).toBe(REP.ERR_POLICY);
    for (const [option, data] of WITH_DATA)
      if (option !== OPT.GO)
        expect(await answerTo(client, option, data)).not.toBe(REP.ERR_TLS_REQD);
    await server.stop();
  });
});

describe("NBD_OPT_STARTTLS", () => {
  test("takes no data", async () => {
    const { server } = await start("require");
    const client = await greeted(server.socket);
    expect(await answerTo(client, OPT.STARTTLS, Buffer.alloc(3))).toBe(REP.ERR_INVALID);
    await client.startTls();
    await server.stop();
  });

  test("is invalid a second time", async () => {
    const { server } = await start("require");
    const client = await (await greeted(server.socket)).startTls();
    expect(await answerTo(client, OPT.STARTTLS)).toBe(REP.ERR_INVALID);
    await server.stop();
  });

  test("makes the server forget structured replies, extended headers and contexts", async () => {
    const { server } = await start("on");
    for (const option of [OPT.STRUCTURED_REPLY, OPT.EXTENDED_HEADERS]) {
      const plain = await greeted(server.socket);
      expect(await answerTo(plain, option)).toBe(REP.ACK);
      const query = contextQueries("", "base:allocation");
      expect(await answerTo(plain, OPT.SET_META_CONTEXT, query)).toBe(REP.ACK);
      const client = await plain.startTls();
      expect(await answerTo(client, OPT.SET_META_CONTEXT, query)).toBe(REP.ERR_INVALID);
      // Simple replies, which are all that a client of that style accepts.
      const strict = await StrictClient.connect(client, { style: "simple" });
      expect((await strict.request({ type: CMD.BLOCK_STATUS, length: 512 })).error).toBe(
        ERRNO.EINVAL,
      );
      expect((await strict.read(0n, 512)).error).toBe(0);
    }
    await server.stop();
  });

  test("never accepts plain text sent after it as encrypted data", async () => {
    const { server } = await start("on");
    const injected = new Uint8Array(encodeOption(OPT.LIST));
    const client = await greeted(server.socket);
    await expect(client.startTls({}, injected)).rejects.toThrow();
    expect((await (await greeted(server.socket)).startTls()).socket.destroyed).toBe(false);
    await server.stop();
  });

  test.each(["TLSv1", "TLSv1.1"] as const)("refuses %s", async (version) => {
    const { server } = await start("require");
    const client = await greeted(server.socket);
    const options = { minVersion: version, maxVersion: version, ciphers: "DEFAULT@SECLEVEL=0" };
    await expect(client.startTls(options)).rejects.toThrow();
    await server.stop();
  });

  test("refuses a certificate of an untrusted authority with the reason", async () => {
    const { server } = await start("require", "--tls-verify-peer");
    const other = new Authority("Other").issue("client");
    const client = await (await greeted(server.socket)).startTls({
      key: readFileSync(join(other, "client-key.pem")),
      cert: readFileSync(join(other, "client-cert.pem")),
    });
    expect(await client.closed()).toHaveLength(0);
    await eventually(
      "the reason",
      () =>
        /TLS handshake failed: the client's certificate was rejected: .*certificate/.test(
          server.stderr(),
        ) || undefined,
    );
    await server.stop();
  });
});

describe("an encrypted connection", () => {
  test.each(["TLSv1.2", "TLSv1.3"] as const)(
    "%s: random reads and writes agree with a model",
    async (version) => {
      const { server } = await start("require");
      const options = { minVersion: version, maxVersion: version };
      const secure = await (await greeted(server.socket)).startTls(options);
      const client = await StrictClient.connect(secure, { style: "extended" });
      const model = patternBytes(4 << 20);
      const piece = 200_000;
      const writes = Array.from({ length: 20 }, (_, i) => ({
        type: CMD.WRITE,
        offset: BigInt(i * piece),
        payload: model.subarray(i * piece, (i + 1) * piece),
      }));
      for (const { error } of await client.requests(...writes)) expect(error).toBe(0);
      const reads = Array.from({ length: 100 }, (_, i) => ({
        type: CMD.READ,
        offset: BigInt((i * 39_119) % (18 * piece)),
        length: 1 + ((i * 7919) % (2 * piece)),
      }));
      await expectReads(client, reads, model);
      await client.disconnect();
      await server.stop();
    },
  );

  test("that fails is closed alone", async () => {
    const { server } = await start("require");
    const good = await StrictClient.connect(await (await greeted(server.socket)).startTls());
    for (const garbage of [
      Buffer.alloc(3),
      Buffer.alloc(100_000, 0x16),
      Buffer.from("GET / HTTP"),
    ]) {
      const client = await greeted(server.socket);
      client.sendOption(OPT.STARTTLS);
      await client.readOptionReply();
      client.send(garbage);
      client.socket.end();
      await client.closed();
    }
    expect((await good.read(0n, 512)).error).toBe(0);
    await server.stop();
  });

  test("is one of many that come and go", async () => {
    const { server } = await start("require");
    const clients = await Promise.all(
      Array.from({ length: 20 }, async () =>
        StrictClient.connect(await (await greeted(server.socket)).startTls()),
      ),
    );
    const replies = await Promise.all(clients.map((client) => client.read(0n, 1 << 20)));
    expect(replies.every(({ error }) => error === 0)).toBe(true);
    await Promise.all(clients.slice(0, 10).map((client) => client.disconnect()));
    await server.stop();
  });
});
