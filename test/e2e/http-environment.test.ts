// What the http plugin takes from the environment, and when: as it was when the server was started.

import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { program } from "../support/program.js";
import { RawClient } from "../support/raw-client.js";
import { refusalOf } from "../support/refusal.js";
import { startServer } from "../support/server.js";
import { startWeb } from "../support/web-server.js";

const content = randomBytes(8192);

/** Refuses every tunnel, and notes what for. */
async function startRefusingProxy(): Promise<{ url: string; tunnels: string[] }> {
  const tunnels: string[] = [];
  const server = createServer().on("connect", ({ url }, socket) => {
    tunnels.push(url ?? "");
    socket.on("error", () => {}).end("HTTP/1.1 403 Forbidden\r\n\r\n");
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  onTestFinished(() => void server.close());
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, tunnels };
}

async function expectServed(url: string, env: NodeJS.ProcessEnv): Promise<void> {
  const server = await startServer(["http", url], { env });
  const client = await RawClient.open(server.socket);
  expect((await client.readAt(0n, 4096)).equals(content.subarray(0, 4096))).toBe(true);
  await server.stop();
}

test.each(["http_proxy", "all_proxy", "ALL_PROXY"])("%s is the proxy", async (variable) => {
  const proxy = await startWeb(content); // which has the disk of every host
  const url = "http://disk.invalid/disk";
  await expectServed(url, { [variable]: `http://127.0.0.1:${proxy.port}` });
  expect(new Set(proxy.requests.map((request) => request.url))).toEqual(new Set([url]));
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
  const proxy = await startRefusingProxy();
  const web = await startWeb(content);
  const env = { [name]: proxy.url };
  await expectServed(web.url, env);
  const words = await refusalOf(["http", "https://disk.invalid/disk", "retries=0"], { env });
  expect(words).toContain("https://disk.invalid/disk");
  expect(proxy.tunnels).toEqual(["disk.invalid:443"]);
});

test("a program's changes of process.env do not concern a server that runs", async () => {
  const web = await startWeb(Buffer.alloc(1 << 20, 7), {
    handle(_, response) {
      response.setHeader("connection", "close"); // for each connection libcurl looks for a proxy
      return false;
    },
  });
  await program(`
    const server = await serve({ plugin: "http", config: { url: "${web.url}", retries: 0 } });
    process.env.http_proxy = process.env.all_proxy = "http://127.0.0.1:1";
    await sh(\`qemu-io -r -f raw -c 'read -P 7 0 64k' '\${server.uri}'\`);
    await server.close();`);
  expect(web.ranges).not.toEqual([]);
});
