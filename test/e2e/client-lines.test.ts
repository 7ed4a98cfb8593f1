// What the log says of clients: a line for each that is refused or fails, with its name and the
// reason, while they are few; nothing of others, unless it is asked for.

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { preSharedKeys } from "../support/certificates.js";
import { CMD } from "../support/protocol.js";
import { encodeRequest, RawClient } from "../support/raw-client.js";
import {
  eventually,
  type RunningServer,
  startServer,
  temporaryDirectory,
} from "../support/server.js";

const { WRITE } = CMD;
const TELLS_OF_CLIENT =
  /^.*: client \S.*: (?:connected|disconnected|connection failed|refused).*$/gm;

const linesOf = (server: RunningServer): string[] => server.stderr().match(TELLS_OF_CLIENT) ?? [];

/** The first line about a client. */
const line = (server: RunningServer): Promise<string> =>
  eventually("a line about the client", () => linesOf(server)[0]);

/** A server that has heard of no client yet, and one that does something wrong. */
const mistakes: [string, RegExp, (client: RawClient) => Promise<void>, string[]?][] = [
  [
    "asks for an export that there is not",
    /: refused: export "nowhere" cannot be opened$/,
    async (client) => {
      await expect(client.go("nowhere")).rejects.toThrow("refused");
      client.socket.end();
    },
  ],
  [
    "speaks another protocol",
    /: refused: expected an option header$/,
    async (client) => {
      await client.greet();
      client.send(Buffer.from("GET / HTTP/1.1\r\n\r\n"));
      await client.closed();
    },
  ],
  [
    "sends flags that it was not offered",
    /: refused: client flags 0xff were not offered$/,
    async (client) => {
      await client.greet(0xff);
      await client.closed();
    },
  ],
  [
    "says nothing",
    /: refused: the handshake took longer than 0\.1 s$/,
    async (client) => void (await client.closed()),
    ["--timeout=100ms"],
  ],
  [
    "does not encrypt where it must",
    /: refused: this server requires TLS$/,
    async (client) => {
      await expect(client.go("some")).rejects.toThrow("refused");
      client.socket.end();
    },
    ["--tls=require", "--tls-psk=KEYS"],
  ],
  [
    "sends what is no request",
    /: connection failed: expected a request header$/,
    async (client) => {
      await client.go("some");
      client.send(Buffer.alloc(28, 1));
      await client.closed();
    },
  ],
  [
    "leaves in the middle of a request",
    /: connection failed: disconnected in the middle of a request$/,
    async (client) => {
      await client.go("some");
      client.send(encodeRequest({ type: WRITE, length: 4096 }), Buffer.alloc(100));
      client.socket.end();
    },
  ],
  [
    "leaves without taking its replies",
    /: connection failed: cannot (?:send replies|receive requests): /,
    async (client) => {
      await client.go("some");
      client.socket.pause();
      for (let i = 0; i < 64; i++) client.sendRequest({ type: CMD.READ, length: 1 << 20 });
      client.socket.destroy();
    },
  ],
];

function directoryPlugin(): string[] {
  const directory = join(temporaryDirectory(), "exports");
  mkdirSync(directory);
  writeFileSync(join(directory, "some"), Buffer.alloc(1 << 20));
  return ["file", `dir=${directory}`];
}

function scriptPlugin(): string[] {
  const path = join(temporaryDirectory(), "one.mjs");
  writeFileSync(
    path,
    `export default {
      name: "one",
      open({ exportName }) { if (exportName !== "some") throw new Error("no such export"); },
      getSize: () => 1 << 20,
      pread() {},
      async pwrite() {},
    };`,
  );
  return [path];
}

const lost = mistakes.filter(([what]) => what.startsWith("leaves"));
const servers: [string, "tcp" | "unix", () => string[], string[], typeof mistakes][] = [
  ["a C plugin, over TCP", "tcp", directoryPlugin, [], mistakes],
  ["a plugin in JavaScript", "unix", scriptPlugin, [], lost],
  ["a plugin in JavaScript on two threads", "unix", scriptPlugin, ["--workers=2"], lost],
];

describe.each(servers)("%s", (_name, transport, plugin, more, made) => {
  test.each(made)("a client that %s is logged", async (_what, reason, misbehave, options = []) => {
    const own = options.map((word) => word.replace("KEYS", preSharedKeys("alice")));
    const server = await startServer(plugin(), {
      ...{ transport, options: [...more, ...own], noProbe: true },
    });
    const client = await RawClient.connect(server.where);
    const { localPort } = client.socket;
    await misbehave(client);
    const said = await line(server);
    expect(said).toMatch(reason);
    const name = transport === "tcp" ? `127.0.0.1:${localPort}` : `pid ${process.pid} of user `;
    expect(said).toContain(`[1]: warning: client ${name}`);
    await server.stop();
    expect(linesOf(server)).toHaveLength(1);
  });

  test("a client that does nothing wrong is logged only on request", async () => {
    for (const options of [[], ["--log-clients"], ["-v"]]) {
      const server = await startServer(plugin(), {
        ...{ transport, options: [...more, ...options], noProbe: true },
      });
      const looking = await RawClient.connect(server.where);
      await looking.greet();
      looking.socket.end();
      await looking.closed();
      const client = await RawClient.open(server.where, "some");
      expect(await client.request({ type: CMD.READ, length: 512 })).toBe(0);
      await client.read(512);
      await client.leave();
      if (options.length === 0) {
        await server.stop();
        expect(linesOf(server)).toEqual([]);
        continue;
      }
      const all = await eventually("four lines", () =>
        linesOf(server).length === 4 ? linesOf(server) : undefined,
      );
      const level = options[0] === "-v" ? "debug" : "info";
      expect(all[0]).toMatch(new RegExp(`\\[1\\]: ${level}: client \\S.*: connected$`));
      const gone = all.filter((line) => line.includes(": disconnected: "));
      expect(gone[0]).toMatch(/\[1\].*: disconnected: during the handshake$/);
      expect(gone[1]).toMatch(/\[2\].* 1 requests, 0 failed, 512 bytes read, 0 bytes written$/);
      await server.stop();
    }
  });
});

test("of many refused clients some are logged, and the others are counted", async () => {
  const server = await startServer(directoryPlugin());
  const knock = async () => {
    const client = await RawClient.connect(server.where);
    await expect(client.go("nowhere")).rejects.toThrow("refused");
    client.socket.end();
    await client.closed();
  };
  for (let i = 0; i < 100; i++) await knock();
  const refusals = () => linesOf(server).filter((line) => line.includes(": refused: "));
  await eventually("a line that counts those left out", async () => {
    await knock();
    return /\(and \d+ more messages suppressed\)$/.test(refusals().at(-1) ?? "") || undefined;
  });
  await server.stop();
  const leftOut = refusals().reduce(
    (sum, line) => sum + Number(/and (\d+) more/.exec(line)?.[1] ?? 0),
    0,
  );
  expect(refusals().length).toBeLessThan(40);
  expect(refusals().length + leftOut).toBeGreaterThan(60);
});
