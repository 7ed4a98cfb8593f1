// The http plugin: passwords, redirects and certificates.

import { randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import type { ServerResponse } from "node:http";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { Authority } from "../support/certificates.js";
import { RawClient } from "../support/raw-client.js";
import { sanitizer, startServer, temporaryDirectory } from "../support/server.js";
import { firstBytesOfWeb, read, refusal } from "../support/web-disk.js";
import { startWeb, type WebOptions } from "../support/web-server.js";

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
    ["cookie", "a=b;", (url) => [url, "header=Cookie: a=b;"]],
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
    expect((await firstBytesOfWeb(...parameters(url))).equals(content.subarray(0, 4096))).toBe(
      true,
    );
    if (name !== "authorization") return;
    expect(await refusal(url)).toContain("the server said 401 Unauthorized; give user=");
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
    expect((await firstBytesOfWeb(url, ...secrets)).equals(content.subarray(0, 4096))).toBe(true);
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
    ["file:///etc/passwd", "redirects to a URL that is neither http: nor https:"],
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
    await firstBytesOfWeb(url, `cainfo=${authority.caCertificate}`);
    await firstBytesOfWeb(url, "sslverify=false");
    expect(await refusal(url)).toMatch(
      /cannot make a secure connection: .*; give the certificates/,
    );
    const other = new Authority("Other authority");
    expect(await refusal(url, `cainfo=${other.caCertificate}`)).toContain("certificate");
    const misnamed = url.replace("127.0.0.1", "localhost");
    const words = await refusal(misnamed, `cainfo=${authority.caCertificate}`);
    expect(words).toMatch(/cannot make a secure connection: .*localhost/);
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
