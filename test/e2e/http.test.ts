// The http plugin, before web servers that are good, slow, wrong and unfaithful.

import { spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { readFileSync, truncateSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { runOk } from "../support/command.js";
import { MIB } from "../support/fixtures.js";
import { encodeRequest, RawClient } from "../support/raw-client.js";
import {
  asyncnbd,
  clean,
  eventually,
  runAsyncnbd,
  startServer,
  temporaryDirectory,
} from "../support/server.js";

interface Web {
  readonly url: string;
  /** The ranges asked for, after the first, which asks for the size. */
  readonly ranges: string[];
  readonly sockets: Set<number>;
}

type Handler = (request: IncomingMessage, response: ServerResponse, count: number) => boolean;

/** Serves `content` by ranges, but for requests that `handle` has answered. */
async function web(
  content: Buffer,
  etag: () => string,
  handle: Handler = () => false,
): Promise<Web> {
  const ranges: string[] = [];
  const sockets = new Set<number>();
  let count = 0;
  const server = createServer((request, response) => {
    const range = request.headers.range ?? "";
    if (count > 0) ranges.push(range);
    sockets.add(request.socket.remotePort as number);
    if (handle(request, response, count++)) return;
    const [, from, to] = (/^bytes=(\d+)-(\d+)$/.exec(range) ?? []).map(Number) as number[];
    const ifRange = request.headers["if-range"];
    if (from === undefined || to === undefined || (ifRange !== undefined && ifRange !== etag())) {
      response.writeHead(200, { etag: etag(), "content-length": content.length });
      response.end(content);
      return;
    }
    const part = content.subarray(from, to + 1);
    response.writeHead(206, {
      etag: etag(),
      "content-length": part.length,
      "content-range": `bytes ${from}-${from + part.length - 1}/${content.length}`,
    });
    response.end(part);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  return { url: `http://127.0.0.1:${port}/disk.img`, ranges, sockets };
}

const ETAG = () => '"one"';

const read = (offset: number, length: number) => ({ type: 0, offset: BigInt(offset), length });

test("nbdcopy gets the file, over few connections that are used again", async () => {
  const content = randomBytes(8 * MIB + 12_345);
  const { url, ranges, sockets } = await web(content, ETAG);
  const server = await startServer(["http", url, "connections=4"]);
  const copy = join(temporaryDirectory(), "copy");
  await runOk(["nbdcopy", "--request-size=65536", server.uri, copy]);
  await server.stop();
  expect(readFileSync(copy).equals(content)).toBe(true);
  // Four, and those in the place of some that one of the two sides has found idle.
  expect(sockets.size).toBeLessThan(16);
  // 129 reads of 64 KiB, of which many came together.
  expect(ranges.length).toBeLessThan(100);
});

test("reads that touch or overlap become one request", async () => {
  const content = randomBytes(MIB);
  const { url, ranges } = await web(content, ETAG);
  const server = await startServer(["http", url, "connections=1"]);
  const client = await RawClient.open(server.socket);
  // In one piece, so that they come together.
  const reads = [
    [900_000, 1],
    [4096, 4096],
    [0, 4096],
    [6000, 10_000],
    [500_000, 512],
  ] as const;
  const wanted = new Map<bigint, Buffer>();
  for (const [i, [offset, length]] of reads.entries())
    wanted.set(BigInt(i), content.subarray(offset, offset + length));
  client.send(
    ...reads.map(([offset, length], i) =>
      encodeRequest({ ...read(offset, length), cookie: BigInt(i) }),
    ),
  );
  for (let i = 0; i < reads.length; i++) {
    const { error, cookie } = await client.readReply();
    expect(error).toBe(0);
    const expected = wanted.get(cookie) as Buffer;
    expect((await client.read(expected.length)).equals(expected)).toBe(true);
  }
  expect(ranges).toContain("bytes=0-15999");
  await server.stop();
});

test("tries again after errors of the server and half answers", async () => {
  const content = randomBytes(MIB);
  const { url } = await web(content, ETAG, (_request, response, count) => {
    if (count === 1) response.writeHead(503, { "retry-after": "0" }).end();
    else if (count === 2) response.socket?.destroy();
    else if (count === 3) {
      response.writeHead(206, {
        etag: ETAG(),
        "content-length": 4096,
        "content-range": `bytes 0-4095/${MIB}`,
      });
      response.write(Buffer.alloc(100), () => response.socket?.destroy());
    } else return false;
    return true;
  });
  const server = await startServer(["http", url, "retry-delay=1ms"]);
  const client = await RawClient.open(server.socket);
  expect(await client.request(read(0, 4096))).toBe(0);
  expect((await client.read(4096)).equals(content.subarray(0, 4096))).toBe(true);
  const { stderr } = await server.stop();
  expect(stderr).toMatch(/http: http:\S+: the server said 503 .*; retrying/);
});

test("gives up after so many tries, and goes on with the next request", async () => {
  const content = randomBytes(MIB);
  let isIll = true;
  const { url } = await web(content, ETAG, (_request, response, count) => {
    if (count === 0 || !isIll) return false;
    response.writeHead(500).end();
    return true;
  });
  const server = await startServer(["http", url, "retry-delay=1ms", "retries=2"]);
  const client = await RawClient.open(server.socket);
  expect(await client.request(read(0, 4096))).toBe(5);
  isIll = false;
  expect(await client.request(read(0, 4096))).toBe(0);
  await server.stop();
});

test("a server that falls silent is left, and asked again", async () => {
  const content = randomBytes(MIB);
  const { url } = await web(content, ETAG, (_request, _response, count) => count === 1);
  const server = await startServer(["http", url, "timeout=200ms", "retry-delay=1ms"]);
  const client = await RawClient.open(server.socket);
  expect(await client.request(read(0, 512))).toBe(0);
  await server.stop();
});

test("a file that changes is an error, never a mixture", async () => {
  const content = randomBytes(MIB);
  let etag = '"one"';
  const { url } = await web(content, () => etag);
  const server = await startServer(["http", url]);
  const client = await RawClient.open(server.socket);
  expect(await client.request(read(0, 512))).toBe(0);
  await client.read(512);
  etag = '"two"';
  expect(await client.request(read(0, 512))).toBe(5);
  expect((await server.stop()).stderr).toContain("the file has changed on the server");
});

test("headers are sent", async () => {
  const { url } = await web(randomBytes(MIB), ETAG, (request, response) => {
    if (request.headers.authorization === "Bearer x") return false;
    response.writeHead(401).end();
    return true;
  });
  const server = await startServer(["http", url, "headers=Authorization: Bearer x"]);
  await server.stop();
  const refused = await runAsyncnbd(["-U", "-", "http", url, "--run", clean("true")]);
  expect(refused).toMatchObject({ status: 1 });
  expect(refused.stderr).toContain("the server said 401 Unauthorized");
});

test.each([
  [["http", "ftp://x/y"], "not an http: or https: URL"],
  [["http"], "plugin http needs the parameter url="],
  [["http", "http://127.0.0.1:10999/", "retries=0"], "ECONNREFUSED"],
])("%j is refused in words", async (args, words) => {
  const { status, stderr } = await runAsyncnbd(["-U", "-", ...args, "--run", "true"]);
  expect(status).toBe(1);
  expect(stderr).toContain(words);
});

test("a server that ignores ranges is refused", async () => {
  const { url } = await web(randomBytes(1000), ETAG, (_request, response) => {
    response.writeHead(200, { "content-length": 1000 }).end(Buffer.alloc(1000));
    return true;
  });
  const { status, stderr } = await runAsyncnbd(["-U", "-", "http", url, "--run", "true"]);
  expect(status).toBe(1);
  expect(stderr).toContain("the server does not support range requests");
});

/** Whether a process may have an /etc/hosts of its own. */
const hasOwnHosts = spawnSync("unshare", ["--mount", "true"]).status === 0;

test.skipIf(!hasOwnHosts)("tries again when the name is not found for a while", async () => {
  const content = randomBytes(MIB);
  const { url } = await web(content, ETAG, (_request, response) => {
    response.setHeader("connection", "close"); // so the name is looked up each time
    return false;
  });
  const hosts = join(temporaryDirectory(), "hosts");
  const known = "127.0.0.1 disk.invalid\n";
  writeFileSync(hosts, known);
  const shell = `mount --bind '${hosts}' /etc/hosts && exec "$0" "$@"`;
  const command = ["unshare", "--mount", "sh", "-c", shell, ...asyncnbd];
  const named = url.replace("127.0.0.1", "disk.invalid");
  const server = await startServer(["http", named, "retry-delay=1ms", "retries=100"], { command });
  const client = await RawClient.open(server.socket);
  truncateSync(hosts);
  client.sendRequest(read(0, 4096));
  await eventually("a warning", () =>
    server.stderr().includes("disk.img: there is no such host; retrying") ? true : undefined,
  );
  writeFileSync(hosts, known);
  expect((await client.readReply()).error).toBe(0);
  expect((await client.read(4096)).equals(content.subarray(0, 4096))).toBe(true);
  await server.stop();
});
