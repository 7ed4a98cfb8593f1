// The http plugin over HTTP/2, which users may choose: many requests on one connection.

import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import {
  createSecureServer,
  type Http2ServerRequest,
  type Http2ServerResponse,
  type ServerHttp2Session,
} from "node:http2";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { connect } from "../../src/client/index.js";
import { Authority } from "../support/certificates.js";
import { run } from "../support/command.js";
import { randomOf } from "../support/random.js";
import { asyncnbd, sanitizer, startServer } from "../support/server.js";
import { refusal } from "../support/web-disk.js";
import { startWeb as startPlainWeb } from "../support/web-server.js";

const MIB = 1 << 20;
const IN_FLIGHT = 64;
const INTERNAL_ERROR = 2; // RFC 9113, 7
const content = randomBytes(8 * MIB);

/** Of a request. */
function rangeOf({ headers }: Http2ServerRequest): [from: number, to: number] {
  const range = /^bytes=(\d+)-(\d+)$/.exec(headers.range ?? "") ?? [];
  const [, from = 0, to = content.length - 1] = range.map(Number);
  return [from, to];
}

function writeHead(response: Http2ServerResponse, [from, to]: [number, number]): void {
  response.writeHead(206, {
    ...{ etag: '"one"', "content-length": to - from + 1 },
    "content-range": `bytes ${from}-${to}/${content.length}`,
  });
}

interface Web {
  readonly parameters: readonly string[];
  readonly sessions: Set<ServerHttp2Session>;
  readonly versions: Set<string>;
  /** How many requests are answered at once, at most. */
  most(): number;
}

/** True: it has answered, or will not. `count` are the requests before. */
type Handler = (
  request: Http2ServerRequest,
  response: Http2ServerResponse,
  count: number,
) => boolean;

/** Lives as long as the test. */
async function startWeb(handle: Handler = () => false): Promise<Web> {
  const sessions = new Set<ServerHttp2Session>();
  const versions = new Set<string>();
  let count = 0;
  let now = 0;
  let most = 0;
  const serve = (request: Http2ServerRequest, response: Http2ServerResponse): void => {
    response.stream.on("error", () => {});
    response.stream.once("close", () => now--);
    versions.add(request.httpVersion);
    most = Math.max(most, ++now);
    if (handle(request, response, count++)) return;
    const [from, to] = rangeOf(request);
    writeHead(response, [from, to]);
    setTimeout(() => response.end(content.subarray(from, to + 1)), 2); // so that others come
  };
  const authority = new Authority();
  const directory = authority.issue("server");
  const pem = (name: string): Buffer => readFileSync(join(directory, `server-${name}.pem`));
  const server = createSecureServer({ key: pem("key"), cert: pem("cert") }, serve);
  server.on("session", (session: ServerHttp2Session) => {
    session.on("error", () => {});
    sessions.add(session);
  });
  server.listen({ port: 0, host: "127.0.0.1" });
  await once(server, "listening");
  onTestFinished(() => {
    for (const session of sessions) session.destroy();
    server.close();
  });
  const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}/disk.img`;
  const trust = `cainfo=${authority.caCertificate}`;
  return {
    parameters: [url, trust, "http-version=2TLS", "retry-delay=1ms"],
    ...{ sessions, versions, most: () => most },
  };
}

/** Reads from everywhere, so many at once, and compares. */
async function readAll(...parameters: readonly string[]): Promise<void> {
  const server = await startServer(["http", ...parameters]);
  const client = await connect(server.uri);
  const random = randomOf(1);
  let left = 400;
  const readSome = async (): Promise<void> => {
    while (left-- > 0) {
      const bytes = 512 * (1 + random(128));
      const offset = 512 * random((content.length - bytes) / 512);
      const read = await client.read(offset, bytes);
      expect(content.subarray(offset, offset + bytes).equals(read)).toBe(true);
    }
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, readSome));
  await client.close();
  await server.stop();
}

describe.skipIf(sanitizer !== undefined)("over TLS", () => {
  test("requests share a connection", async () => {
    const web = await startWeb();
    await readAll(...web.parameters);
    expect([...web.versions]).toEqual(["2.0"]);
    expect(web.sessions.size).toBe(1);
    expect(web.most()).toBeGreaterThan(IN_FLIGHT / 4);
  });

  test("a stream that is reset in the middle is asked for again", async () => {
    const web = await startWeb((request, response, count) => {
      if (count % 10 !== 9) return false;
      const [from, to] = rangeOf(request);
      writeHead(response, [from, to]);
      response.write(content.subarray(from, (from + to) / 2));
      setTimeout(() => response.stream.close(INTERNAL_ERROR), 5);
      return true;
    });
    await readAll(...web.parameters);
  });

  test("a server that closes its sessions in good order loses nothing", async () => {
    const web = await startWeb((request, _response, count) => {
      if (count % 50 === 49) request.stream.session?.close();
      return false;
    });
    await readAll(...web.parameters);
    expect(web.sessions.size).toBeGreaterThan(1);
  });

  test("a session that is cut is opened again", async () => {
    const web = await startWeb((request, _response, count) => {
      if (count % 100 !== 99) return false;
      request.stream.session?.destroy();
      return true;
    });
    await readAll(...web.parameters);
    expect(web.sessions.size).toBeGreaterThan(1);
  });

  test("a server that is busy is asked again", async () => {
    const web = await startWeb((_request, response, count) => {
      if (count % 10 !== 9) return false;
      response.writeHead(503).end();
      return true;
    });
    await readAll(...web.parameters);
  });
});

test("libcurl 7.88 cannot use a connection without TLS twice", async ({ skip }) => {
  const { stdout } = await run([...asyncnbd, "--dump-plugin", "http"]);
  if (!stdout.includes("http_libcurl_version=7.88")) skip();
  const words = await refusal("http://127.0.0.1:1/disk.img", "http-version=2-prior-knowledge");
  expect(words).toContain("does not work with libcurl 7.88");
});

test("without TLS, HTTP/2 is not asked for", async () => {
  const web = await startPlainWeb(content);
  await readAll(web.url, "http-version=2.0");
  expect(new Set(web.requests.map(({ httpVersion }) => httpVersion))).toEqual(new Set(["1.1"]));
  expect(web.requests.some(({ headers }) => "upgrade" in headers)).toBe(false);
});
