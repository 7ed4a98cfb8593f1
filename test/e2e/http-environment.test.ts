// What the http plugin takes from the environment, and when: as it was when the server was started.

import { randomBytes } from "node:crypto";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { program } from "../support/program.js";
import { RawClient } from "../support/raw-client.js";
import { refusalOf } from "../support/refusal.js";
import { startServer } from "../support/server.js";
import { startWeb } from "../support/web-server.js";

const content = randomBytes(8192);

/** Answers for all hosts; "GET http://…" of all requests so far. */
async function startProxy(): Promise<{ url: string; seen: string[] }> {
  const seen: string[] = [];
  const server = createServer(({ method, url, headers }, response) => {
    seen.push(`${method} ${url}`);
    const [, from = "0", to = "0"] = /(\d+)-(\d+)/.exec(headers.range ?? "") ?? [];
    const part = content.subarray(Number(from), Number(to) + 1);
    const range = `bytes ${from}-${Number(from) + part.length - 1}/${content.length}`;
    response.writeHead(206, {
      "content-length": part.length,
      "content-range": range,
      etag: '"it"',
    });
    response.end(part);
  });
  server.on("connect", (request, socket) => {
    seen.push(`CONNECT ${request.url}`);
    socket.on("error", () => {}).end("HTTP/1.1 403 Forbidden\r\n\r\n");
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, seen };
}

async function expectServed(url: string, env: NodeJS.ProcessEnv): Promise<void> {
  const server = await startServer(["http", url], { env });
  const client = await RawClient.open(server.socket);
  expect((await client.readAt(0n, 4096)).equals(content.subarray(0, 4096))).toBe(true);
  await server.stop();
}

test.each(["http_proxy", "all_proxy", "ALL_PROXY"])("%s is the proxy", async (variable) => {
  const proxy = await startProxy();
  const url = "http://disk.invalid/disk";
  await expectServed(url, { [variable]: proxy.url });
  expect(new Set(proxy.seen)).toEqual(new Set([`GET ${url}`]));
});

test.each([
  { no_proxy: "127.0.0.1" },
  { NO_PROXY: "127.0.0.1" },
  { http_proxy: "", HTTP_PROXY: "http://127.0.0.1:1" }, // CGI programs get that from their clients
])("there is no proxy with %o", async (env) => {
  const web = await startWeb(content);
  const dead = "http_proxy" in env ? {} : { http_proxy: "http://127.0.0.1:1" };
  await expectServed(web.url, { ...dead, ...env });
});

test.each(["https_proxy", "HTTPS_PROXY"])("%s is the proxy of https: URLs only", async (name) => {
  const proxy = await startProxy();
  const web = await startWeb(content);
  const env = { [name]: proxy.url };
  await expectServed(web.url, env);
  const words = await refusalOf(["http", "https://disk.invalid/disk", "retries=0"], { env });
  expect(words).toContain("https://disk.invalid/disk");
  expect(proxy.seen).toEqual(["CONNECT disk.invalid:443"]);
});

test("a program's changes of process.env do not concern a server that runs", async () => {
  await program(`
    import { createServer } from "node:http";
    const disk = Buffer.alloc(1 << 20, 7);
    let connections = 0;
    const web = createServer(({ headers }, response) => {
      const [from, to] = /(\\d+)-(\\d+)/.exec(headers.range ?? "0-" + (disk.length - 1)).slice(1).map(Number);
      const range = "bytes " + from + "-" + to + "/" + disk.length;
      response.writeHead(206, { "content-length": to - from + 1, "content-range": range, connection: "close" });
      response.end(disk.subarray(from, to + 1));
    });
    web.on("connection", () => connections++);
    await once(web.listen(0, "127.0.0.1"), "listening");
    const url = "http://127.0.0.1:" + web.address().port + "/disk";
    const server = await serve({ plugin: "http", config: { url, retries: 0 } });
    const before = connections;
    process.env.http_proxy = process.env.all_proxy = "http://127.0.0.1:1";
    await sh(\`qemu-io -r -f raw -c 'read -P 7 0 64k' '\${server.uri}'\`);
    assert.ok(connections > before);
    await server.close();
    web.close();`);
});
