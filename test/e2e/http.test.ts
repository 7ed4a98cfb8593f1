// The http plugin, before web servers that do what they should.

import { randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import type { ServerResponse } from "node:http";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { Authority } from "../support/certificates.js";
import { runOk } from "../support/command.js";
import { MIB } from "../support/fixtures.js";
import { hasNginx, startNginx } from "../support/nginx.js";
import { CMD } from "../support/protocol.js";
import { encodeRequest, RawClient } from "../support/raw-client.js";
import {
  clean,
  eventually,
  runAsyncnbd,
  sanitizer,
  startServer,
  temporaryDirectory,
} from "../support/server.js";
import { ETAG, startWeb, type WebOptions } from "../support/web-server.js";

const read = (offset: number, length: number) => ({
  type: CMD.READ,
  offset: BigInt(offset),
  length,
});

const refusal = async (...parameters: readonly string[]): Promise<string> => {
  const command = clean("true");
  const { status, stderr } = await runAsyncnbd([
    "-U",
    "-",
    "http",
    ...parameters,
    "--run",
    command,
  ]);
  expect(status).toBe(1);
  return stderr;
};

/** Reads the first bytes of what these parameters serve. */
async function firstBytes(...parameters: readonly string[]): Promise<Buffer> {
  const server = await startServer(["http", ...parameters]);
  const client = await RawClient.open(server.socket);
  expect(await client.request(read(0, 4096))).toBe(0);
  const bytes = await client.read(4096);
  await server.stop();
  return bytes;
}

describe("a file", () => {
  test("is copied over a few connections that are reused", async () => {
    const content = randomBytes(8 * MIB + 12_345);
    const { url, ranges, sockets } = await startWeb(content);
    const server = await startServer(["http", url, "connections=4"]);
    const copy = join(temporaryDirectory(), "copy");
    await runOk(["nbdcopy", "--request-size=65536", server.uri, copy]);
    await server.stop();
    expect(readFileSync(copy).equals(content)).toBe(true);
    // Four, and those in the place of some that one of the two sides has found idle.
    expect(sockets.size).toBeLessThan(16);
    // 129 reads of 64 KiB, of which many have waited together.
    expect(ranges.length).toBeLessThan(100);
  });

  test.skipIf(!hasNginx)("of nginx is the same to nbdcopy and qemu-img", async () => {
    const { folder, socket } = await startNginx();
    const file = join(folder, "disk.img");
    writeFileSync(file, randomBytes(8 * MIB));
    writeFileSync(join(folder, "empty"), "");
    const place = `unix-socket-path=${socket}`;
    const server = await startServer(["http", "http://host/disk.img", place]);
    await runOk(["qemu-img", "compare", "-f", "raw", "-F", "raw", file, server.uri]);
    const copy = join(temporaryDirectory(), "copy");
    await runOk(["nbdcopy", "--connections=4", server.uri, copy]);
    expect(readFileSync(copy).equals(readFileSync(file))).toBe(true);
    await server.stop();

    const empty = await startServer(["http", "http://host/empty", place]);
    expect((await runOk(["nbdinfo", "--size", empty.uri])).trim()).toBe("0");
    await empty.stop();
    expect(await refusal("http://host/nosuch", place)).toContain("the server said 404 Not Found");
  });

  test("is read with 64 requests at once", async () => {
    const content = randomBytes(MIB);
    const held: (() => void)[] = [];
    const { url } = await startWeb(content, {
      handle(request, response, count) {
        if (count === 0) return false;
        const [from, to] = (request.headers.range?.match(/\d+/g) ?? []).map(Number);
        held.push(() => {
          response.writeHead(206, {
            etag: '"one"',
            "content-range": `bytes ${from}-${to}/${MIB}`,
            "content-length": 4096,
          });
          response.end(content.subarray(from, (to as number) + 1));
        });
        return true;
      },
    });
    const server = await startServer(["http", url]);
    const client = await RawClient.open(server.socket);
    const requests = Array.from({ length: 64 }, (_, i) => read(i * 8192, 4096));
    client.send(...requests.map((one, i) => encodeRequest({ ...one, cookie: BigInt(i) })));
    await eventually("64 requests", () => (held.length === 64 ? true : undefined));
    for (const answer of held) answer();
    for (let i = 0; i < 64; i++) {
      const { error, cookie } = await client.readReply();
      expect(error).toBe(0);
      const from = Number(cookie) * 8192;
      const bytes = await client.read(4096);
      expect(bytes.equals(content.subarray(from, from + 4096))).toBe(true);
    }
    await server.stop();
  });

  test("is requested once for adjacent reads that have waited", async () => {
    const content = randomBytes(MIB);
    const first = 900_000;
    let answerFirst = (): void => {};
    const { url, ranges } = await startWeb(content, {
      handle(_request, response, count) {
        if (count !== 1) return false;
        answerFirst = () => {
          const range = `bytes ${first}-${first}/${content.length}`;
          response.writeHead(206, { etag: ETAG, "content-length": 1, "content-range": range });
          response.end(content.subarray(first, first + 1));
        };
        return true;
      },
    });
    const server = await startServer(["http", url, "connections=1"]);
    const client = await RawClient.open(server.socket);
    const reads = [
      [first, 1],
      [4096, 4096],
      [0, 4096],
      [8192, 7808],
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
    // What comes behind them and is refused at once is answered when all of them wait.
    expect(await client.request({ ...read(content.length, 1), cookie: 99n })).not.toBe(0);
    await eventually("the first request", () => ranges.length > 0 || undefined);
    answerFirst();
    for (let i = 0; i < reads.length; i++) {
      const { error, cookie } = await client.readReply();
      expect(error).toBe(0);
      const expected = wanted.get(cookie) as Buffer;
      expect((await client.read(expected.length)).equals(expected)).toBe(true);
    }
    expect(ranges).toContain("bytes=0-15999");
    await server.stop();
  });
});

describe("a user's name or password", () => {
  const content = randomBytes(8192);
  const password = () => {
    const file = join(temporaryDirectory(), "password");
    writeFileSync(file, "geheim\n");
    return `password=+${file}`;
  };
  const basic = `Basic ${Buffer.from("me:geheim").toString("base64")}`;

  test.each<[string, string, (url: string) => string[]]>([
    ["authorization", "Bearer x", (url) => [url, "header=Authorization: Bearer x"]],
    ["authorization", "Bearer x", (url) => [url, "headers=X-A: b\nAuthorization: Bearer x"]],
    ["authorization", basic, (url) => [url, "user=me", password()]],
    ["authorization", basic, (url) => [url.replace("//", "//me:geheim@")]],
    ["cookie", "a=b; c=d", (url) => [url, "cookie=a=b; c=d"]],
    ["user-agent", "me/1", (url) => [url, "user-agent=me/1"]],
    ["accept-encoding", "identity", (url) => [url]],
  ])("is said by %s: %s", async (name, value, parameters) => {
    const { url } = await startWeb(content, {
      handle(request, response) {
        if (request.headers[name] === value) return false;
        response.writeHead(401).end();
        return true;
      },
    });
    expect((await firstBytes(...parameters(url))).equals(content.subarray(0, 4096))).toBe(true);
    if (name !== "authorization") return;
    expect(await refusal(url)).toContain("the server said 401 Unauthorized; user= and password=");
  });

  test("appears in no message", async () => {
    const { url } = await startWeb(content, {
      handle(_request, response) {
        response.writeHead(403).end();
        return true;
      },
    });
    const secret = url.replace("//", "//me:geheim@");
    const words = await refusal(`${secret}?token=geheim`, "header=X-Key: geheim", "-v");
    expect(words).toContain(`${url}: the server said 403 Forbidden`);
    expect(words.replace(/^.*(config|argv|debug: plugin http: config).*$/gm, "")).not.toContain(
      "geheim",
    );
  });
});

describe("a redirect", () => {
  const content = randomBytes(8192);
  const to = (location: string, response: ServerResponse): true => {
    response.writeHead(302, { location }).end();
    return true;
  };

  test("is followed once, and remembered", async () => {
    const { url, requests } = await startWeb(content, {
      handle: (request, response) => request.url === "/moved" && to("disk.img", response),
    });
    const moved = url.replace("disk.img", "moved");
    const server = await startServer(["http", moved, "user=me", "password=x"]);
    const client = await RawClient.open(server.socket);
    for (let i = 0; i < 3; i++) {
      expect(await client.request(read(0, 512))).toBe(0);
      await client.read(512);
    }
    await server.stop();
    expect(requests.map((request) => request.url).filter((path) => path === "/moved")).toHaveLength(
      1,
    );
    expect(requests.every(({ headers }) => headers.authorization !== undefined)).toBe(true);
    expect(await refusal(moved, "followlocation=false")).toContain("the server said 302 Found");
  });

  test("to another host sends no secrets", async () => {
    const other = await startWeb(content);
    const { url } = await startWeb(content, {
      handle: (_request, response) => to(other.url, response),
    });
    const secrets = ["user=me", "password=x", "header=X-Key: y", "cookie=a=b"];
    expect((await firstBytes(url, ...secrets)).equals(content.subarray(0, 4096))).toBe(true);
    for (const { headers } of other.requests) {
      expect(headers).not.toHaveProperty("authorization");
      expect(headers).not.toHaveProperty("cookie");
      expect(headers).not.toHaveProperty("x-key");
    }
  });

  test("that no longer works is requested again", async () => {
    let place = 1;
    const { url } = await startWeb(content, {
      handle(request, response) {
        if (request.url === "/disk.img") return to(`/place${place}`, response);
        if (request.url === `/place${place}`) return false;
        response.writeHead(403).end();
        return true;
      },
    });
    const server = await startServer(["http", url]);
    const client = await RawClient.open(server.socket);
    for (; place <= 3; place++) {
      expect(await client.request(read(0, 512))).toBe(0);
      await client.read(512);
    }
    await server.stop();
  });

  test.each([
    ["file:///etc/passwd", "redirects to what is no http: URL"],
    ["/disk.img", "there are more than 10 redirects"],
  ])("to %s is refused", async (location, words) => {
    const { url } = await startWeb(content, {
      handle: (_request, response) => to(location, response),
    });
    expect(await refusal(url)).toContain(words);
  });
});

describe.skipIf(sanitizer !== undefined)("https:", () => {
  const serveTls = async (authority: Authority, options: WebOptions = {}) => {
    const directory = authority.issue("server", { host: "other.example" });
    const key = readFileSync(join(directory, "server-key.pem"));
    const cert = readFileSync(join(directory, "server-cert.pem"));
    return startWeb(randomBytes(8192), { ...options, tls: { key, cert } });
  };

  test("needs a trusted certificate", async () => {
    const authority = new Authority();
    const { url } = await serveTls(authority);
    await firstBytes(url, `cainfo=${authority.caCertificate}`);
    await firstBytes(url, "sslverify=false");
    expect(await refusal(url)).toMatch(/no secure connection: .*; cainfo= names/);
    const other = new Authority("Other authority");
    expect(await refusal(url, `cainfo=${other.caCertificate}`)).toContain("certificate");
    const misnamed = url.replace("127.0.0.1", "localhost");
    const words = await refusal(misnamed, `cainfo=${authority.caCertificate}`);
    expect(words).toMatch(/no secure connection: .*localhost/);
    expect(words).not.toContain("cainfo="); // it is not that
  });

  test("is never redirected to http:", async () => {
    const authority = new Authority();
    const plain = await startWeb(randomBytes(8192));
    const { url } = await serveTls(authority, {
      handle(_request, response) {
        response.writeHead(302, { location: plain.url }).end();
        return true;
      },
    });
    expect(await refusal(url, "sslverify=false")).toContain("or from https: to http:");
  });
});

test.each([
  [["ftp://x/y"], "url=ftp://x/y: not an http: or https: URL"],
  [[], "the parameter url= is missing"],
  [["http://127.0.0.1:1/"], "http://127.0.0.1:1/: cannot connect: Connection refused"],
  [["http://nosuch.invalid/"], "http://nosuch.invalid/: there is no such host"],
  [["http://x/", "connections=0"], "connections=0: use a number from 1"],
  [["http://x/", "header=x"], "header=: expected NAME: VALUE"],
  [["http://x/", "timeout=0"], "timeout=0: use a time"],
  [["http://x/", "nosuch=1"], 'unknown parameter "nosuch"'],
])("%j is refused with the reason", async (parameters, words) => {
  expect(await refusal(...parameters)).toContain(words);
});

test("a server that ignores ranges is refused", async () => {
  const { url } = await startWeb(randomBytes(1000), {
    handle(_request, response) {
      response.writeHead(200, { "content-length": 1000 }).end(Buffer.alloc(1000));
      return true;
    },
  });
  expect(await refusal(url)).toContain("the server does not support range requests");
});
