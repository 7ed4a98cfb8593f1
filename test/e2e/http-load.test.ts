// The http plugin under load, before a web server that fails now and then: every byte is right, and
// nobody notices but the log.

import { randomBytes } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { MIB } from "../support/fixtures.js";
import { readScattered } from "../support/scattered-reads.js";
import { startServer } from "../support/server.js";
import { ETAG, startWeb } from "../support/web-server.js";

const content = randomBytes(MIB);
const parameters = ["retry-delay=10ms", "retries=20", "timeout=1s"];

type Fate = (response: ServerResponse, request: IncomingMessage) => void;

const cutBody: Fate = (response, { headers }) => {
  const [from, to] = (headers.range?.match(/\d+/g) ?? []).map(Number) as [number, number];
  response.writeHead(206, {
    etag: ETAG,
    "content-length": to - from + 1,
    "content-range": `bytes ${from}-${to}/${content.length}`,
  });
  const half = content.subarray(from, from + Math.ceil((to - from) / 2));
  response.write(half, () => response.socket?.destroy());
};

test.each<[string, Fate]>([
  ["answers with 500", (response) => void response.writeHead(500).end("no")],
  ["answers with 502", (response) => void response.writeHead(502).end("no")],
  [
    "asks for a slower pace and a second's pause",
    (response) => void response.writeHead(503, { "retry-after": "1" }).end(),
  ],
  ["has had too many requests", (response) => void response.writeHead(429).end()],
  ["cuts bodies", cutBody],
  ["closes the connection", (response) => void response.socket?.destroy()],
  ["is silent", () => {}],
])(
  "a web server that %s every now and then is read right",
  async (_, fate) => {
    let failed = 0;
    const { url } = await startWeb(content, {
      handle(request, response, count) {
        if (count % 20 !== 7) return false;
        failed++;
        fate(response, request);
        return true;
      },
    });
    const server = await startServer(["http", url, ...parameters]);
    await readScattered(server, content);
    expect(failed).toBeGreaterThan(10);
    expect((await server.stop()).stderr).not.toContain("error:");
  },
  60_000,
);

test("a web server that is killed and comes back is read right", async () => {
  const slowly = (request: IncomingMessage, response: ServerResponse, count: number): boolean => {
    if (count === 0) return false;
    setTimeout(() => {
      const [from, to] = (request.headers.range?.match(/\d+/g) ?? []).map(Number);
      const part = content.subarray(from, (to as number) + 1);
      response.writeHead(206, {
        etag: ETAG,
        "content-length": part.length,
        "content-range": `bytes ${from}-${to}/${content.length}`,
      });
      response.end(part);
    }, 20);
    return true;
  };
  const first = await startWeb(content, { handle: slowly });
  const server = await startServer(["http", first.url, ...parameters, "connections=8"]);
  const reading = readScattered(server, content);
  await sleep(100);
  await first.close();
  await sleep(1000);
  const listen = { port: first.port, host: "127.0.0.1" };
  const second = await startWeb(content, { listen });
  await reading;
  expect(first.ranges.length).toBeGreaterThan(8);
  expect(second.ranges.length).toBeGreaterThan(8);
  await server.stop();
}, 60_000);
