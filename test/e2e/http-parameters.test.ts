// The parameters that the http plugin has from nbdkit's curl plugin, of nbdkit here and of newer ones.

import { randomBytes } from "node:crypto";
import { mkdirSync, readFileSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { Authority } from "../support/certificates.js";
import { run } from "../support/command.js";
import { RawClient } from "../support/raw-client.js";
import { asyncnbd, startServer, temporaryDirectory } from "../support/server.js";
import { firstBytesOfWeb, read, refusal } from "../support/web-disk.js";
import { startWeb, type WebOptions } from "../support/web-server.js";

const sanitizer = process.env.ASYNCNBD_TEST_SANITIZER;
const content = randomBytes(64 * 1024);
const isServed = async (...parameters: readonly string[]): Promise<void> =>
  expect((await firstBytesOfWeb(...parameters)).equals(content.subarray(0, 4096))).toBe(true);

/** "NAME" of each line "NAME=…" in what a plugin says of its parameters. */
async function namesIn(command: readonly string[]): Promise<string[]> {
  const { stdout } = await run(command);
  return [...stdout.matchAll(/^\[?([a-z0-9_-]+)=/gm)].map(([, name]) => name as string);
}

test("every parameter of nbdkit's curl plugin is there", async () => {
  const ours = new Set(await namesIn([...asyncnbd, "http", "--help"]));
  const theirs = await namesIn(["nbdkit", "curl", "--help"]);
  const newer = ["connections", "http-version", "ipresolve", "resolve"]; // nbdkit 1.34
  expect(theirs).toContain("timeout");
  expect([...theirs, ...newer].filter((name) => !ours.has(name))).toEqual([]);
});

test("with timeout=0 the server may be silent until the deadline", async () => {
  const { url } = await startWeb(content, {
    handle(_request, response, count) {
      if (count !== 1) return false;
      setTimeout(() => response.writeHead(500).end(), 500);
      return true;
    },
  });
  const server = await startServer(["http", url, "timeout=0", "retry-delay=1ms", "retries=1"]);
  const client = await RawClient.open(server.socket);
  expect(await client.request(read(0, 512))).toBe(0);
  await client.read(512);
  await server.stop();
});

test("hosts are looked up as the parameters say", async () => {
  const web = await startWeb(content);
  const url = web.url.replace("127.0.0.1", "disk.invalid");
  await isServed(url, `resolve=disk.invalid:${web.port}:127.0.0.1`, "ipresolve=v4");
  expect(web.requests.map(({ headers }) => headers.host)).toContain(`disk.invalid:${web.port}`);
  expect(await refusal(url, `resolve=disk.invalid:1:127.0.0.1`)).toContain("no such host");
  expect(await refusal(web.url.replace("127.0.0.1", "[::1]"), "ipresolve=4")).toContain("http://");
});

test.each([
  ["1.0", "1.0"],
  ["1.1", "1.1"],
  ["none", "1.1"],
])("with http-version=%s requests are of HTTP/%s", async (value, version) => {
  const web = await startWeb(content);
  await isServed(web.url, `http-version=${value}`);
  expect(new Set(web.requests.map(({ httpVersion }) => httpVersion))).toEqual(new Set([version]));
});

describe.skipIf(sanitizer !== undefined)("certificates", () => {
  const startTls = async (authority: Authority, options: WebOptions = {}) => {
    const directory = authority.issue("server", { host: "other.example" });
    const key = readFileSync(join(directory, "server-key.pem"));
    const cert = readFileSync(join(directory, "server-cert.pem"));
    return startWeb(content, { ...options, tls: { key, cert } });
  };

  test("cainfo= without a file leaves those of capath=", async () => {
    const authority = new Authority();
    const { url } = await startTls(authority);
    const directory = join(temporaryDirectory(), "authorities");
    mkdirSync(directory);
    const { stdout } = await run([
      ...["openssl", "x509", "-hash", "-noout", "-in", authority.caCertificate],
    ]);
    symlinkSync(authority.caCertificate, join(directory, `${stdout.trim()}.0`));
    await isServed(url, "cainfo=", `capath=${directory}`);
    expect(await refusal(url, "cainfo=")).toContain("cannot make a secure connection");
  });

  test("cainfo= without a file does not use the environment's", async () => {
    const authority = new Authority();
    const { url } = await startTls(authority);
    process.env.CURL_CA_BUNDLE = authority.caCertificate;
    try {
      await isServed(url);
      expect(await refusal(url, "cainfo=")).toContain("cannot make a secure connection");
    } finally {
      delete process.env.CURL_CA_BUNDLE;
    }
  });

  test("ssl-version= has a most version, too", async () => {
    const versions: (string | null | undefined)[] = [];
    const authority = new Authority();
    const { url } = await startTls(authority, {
      handle({ socket }) {
        versions.push((socket as import("node:tls").TLSSocket).getProtocol());
        return false;
      },
    });
    await isServed(url, "sslverify=false", "ssl-version=max-tlsv1.2");
    expect(new Set(versions)).toEqual(new Set(["TLSv1.2"]));
  });
});

test.each([
  [["http-version=3"], "http-version=3: use one of none, 1.0"],
  [["ipresolve=v5"], "ipresolve=v5: use one of any, whatever, v4"],
  [["cookiejar=-"], "cookiejar=-: cookies cannot be read from standard input"],
  [["header-script-renew=5"], "header-script-renew= cannot be used without header-script="],
  [["cookie-script-renew=5"], "cookie-script-renew= cannot be used without cookie-script="],
  [["unix_socket_path=/nonexistent"], "cannot connect"],
])("%j is refused with the reason", async (parameters, words) => {
  expect(await refusal("http://x/", ...parameters)).toContain(words);
});
