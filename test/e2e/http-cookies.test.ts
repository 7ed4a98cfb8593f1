// The http plugin: cookies, and headers and cookies that scripts print.

import { randomBytes } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { RawClient } from "../support/raw-client.js";
import { eventually, startServer, temporaryDirectory } from "../support/server.js";
import { firstBytesOfWeb, read, refusal } from "../support/web-disk.js";
import { startWeb } from "../support/web-server.js";

const content = randomBytes(8192);

/** A server that only answers whom `knows` does. */
const startStrict = (knows: (request: IncomingMessage) => boolean) =>
  startWeb(content, {
    handle(request, response) {
      if (knows(request)) return false;
      response.writeHead(401).end();
      return true;
    },
  });

const expectToServe = async (...parameters: readonly string[]): Promise<void> => {
  expect((await firstBytesOfWeb(...parameters)).equals(content.subarray(0, 4096))).toBe(true);
};

/** In the format of Netscape's, which libcurl reads and writes. */
const jarLine = (name: string, value: string): string =>
  ["127.0.0.1", "FALSE", "/", "FALSE", "0", name, value].join("\t");

describe("cookies of the server", () => {
  const login = (request: IncomingMessage, response: ServerResponse): boolean => {
    if (request.url !== "/login") {
      if (request.headers.cookie?.includes("session=s1")) return false;
      response.writeHead(401).end();
      return true;
    }
    response.writeHead(302, { location: "disk.img", "set-cookie": "session=s1" }).end();
    return true;
  };

  test("are sent back with cookiefile=, by all connections, and not without it", async () => {
    const { url, requests } = await startWeb(content, { handle: login });
    const start = url.replace("disk.img", "login");
    const server = await startServer(["http", start, "cookiefile=", "cookie=own=1"]);
    const client = await RawClient.open(server.socket);
    await client.readTogether(8);
    await server.stop();
    const [first, ...others] = requests.map(({ headers }) => headers.cookie);
    expect(first).toBe("own=1");
    expect(others).toEqual(others.map(() => "session=s1; own=1"));
    expect(await refusal(start)).toContain("the server said 401 Unauthorized");
  });

  test("begin with those of a file, and are written to the jar in the end", async () => {
    const { url } = await startWeb(content, { handle: login });
    const file = join(temporaryDirectory(), "cookies");
    writeFileSync(file, `# Netscape HTTP Cookie File\n${jarLine("session", "s1")}\n`);
    await expectToServe(url, `cookiefile=${file}`);
    const jar = join(temporaryDirectory(), "jar");
    await expectToServe(url.replace("disk.img", "login"), `cookiejar=${jar}`);
    expect(readFileSync(jar, "utf8")).toContain(jarLine("session", "s1"));
    await expectToServe(url, `cookiejar=${jar}`);
    const other = join(temporaryDirectory(), "other");
    await expectToServe(url, `cookiefile=${file}`, `cookiejar=${other}`);
    expect(readFileSync(other, "utf8")).toContain(jarLine("session", "s1"));
  });
});

test("a cookie can be read from a file, and appears in no message", async () => {
  const file = join(temporaryDirectory(), "cookie");
  writeFileSync(file, "session=geheim\n");
  const { url } = await startStrict(({ headers }) => headers.cookie === "session=geheim");
  await expectToServe(url, `cookie=+${file}`);
});

describe("a script", () => {
  test("prints the headers, with the URL and a number in its environment", async () => {
    const { url } = await startStrict(
      ({ headers }) => headers["x-key"] === "0 disk.img" && headers["x-empty"] === "",
    );
    const print = 'printf "X-Key: %s %s\\nX-Empty;\\n" "$iteration" "$(basename "$url")"';
    await expectToServe(url, `header-script=${print}`);
  });

  test("prints the cookies", async () => {
    const { url } = await startStrict(({ headers }) => headers.cookie === "a=b; c=d");
    await expectToServe(url, 'cookie-script=echo "a=b; c=d"');
  });

  test("is run again after the time of its renewal", async () => {
    let token = "0";
    const { url } = await startStrict(({ headers }) => headers["x-key"] === token);
    const server = await startServer([
      ...["http", url, 'header-script=echo "X-Key: $iteration"', "header-script-renew=1"],
    ]);
    const client = await RawClient.open(server.socket);
    token = "2";
    await eventually("a read with the third token", async () => {
      const error = await client.request(read(0, 512));
      if (error === 0) await client.read(512);
      return error === 0 || undefined;
    });
    await server.stop();
  });

  test("that fails when it is run again is warned of, and what it has printed stays", async () => {
    const flag = join(temporaryDirectory(), "flag");
    const { url } = await startStrict(({ headers }) => headers.cookie === "a=b");
    const server = await startServer([
      ...["http", url, "cookie-script-renew=1"],
      `cookie-script=[ "$iteration" = 0 ] || { touch ${flag}; exit 3; }; echo a=b`,
    ]);
    const client = await RawClient.open(server.socket);
    await eventually("second run", () => existsSync(flag) || undefined);
    await eventually(
      "warning",
      () => server.stderr().includes("cookie-script: it failed with status 3") || undefined,
    );
    expect(await client.request(read(0, 512))).toBe(0);
    await client.read(512);
    await server.stop();
  });

  test.each(["", "exec >&-; "])("that hangs is killed when the server ends: %j", async (before) => {
    const directory = temporaryDirectory();
    const file = join(directory, "pid");
    const { url } = await startWeb(content);
    const server = await startServer([
      ...["http", url, "cookie-script-renew=1"],
      `cookie-script=[ "$iteration" = 0 ] || { echo $$ >${file}; ${before}sleep 90; }; echo a=b`,
    ]);
    await eventually("second run", () => existsSync(file) || undefined);
    const start = Date.now();
    await server.stop();
    expect(Date.now() - start).toBeLessThan(5000);
    expect(existsSync(`/proc/${readFileSync(file, "utf8").trim()}`)).toBe(false);
  });

  test.each([
    ["header-script=exit 4", "header-script: it failed with status 4"],
    ["header-script=echo nonsense", "header-script: expected NAME: VALUE"],
    ["header-script=kill -TERM $$", "header-script: it was killed by signal 15"],
    ["cookie-script=echo a=b; echo c=d", "cookie-script: it prints more than one line"],
    ["cookie-script=yes", "cookie-script: it prints more than 64 KiB"],
  ])("that fails at the start ends it: %s", async (script, words) => {
    const { url } = await startWeb(content);
    expect(await refusal(url, script)).toBe(`asyncnbd: error: ${words}\n`);
  });
});

test.each([
  [["header-script=true", "header=A: b"], "header-script= prints the headers"],
  [["cookie-script=true", "cookie=a=b"], "cookie-script= prints the cookies"],
  [["protocols=https"], "protocols= does not allow it"],
  [["protocols=ftp,file"], "has neither http nor https"],
  [["ssl-version=sslv3"], "ssl-version=sslv3: use one of default, tlsv1, tlsv1.0"],
  [["header=no header"], "header=: expected NAME: VALUE"],
] as const)("%j is refused", async (parameters, words) => {
  expect(await refusal("http://127.0.0.1:1/disk.img", ...parameters)).toContain(words);
});

test("a later redirect to a scheme that protocols= does not have only fails one read", async () => {
  let isAway = false;
  const { url } = await startWeb(content, {
    handle(_request, response) {
      if (isAway) response.writeHead(302, { location: "https://127.0.0.1:1/" }).end();
      return isAway;
    },
  });
  const server = await startServer(["http", url, "protocols=http"]);
  const client = await RawClient.open(server.socket);
  isAway = true;
  expect(await client.request(read(0, 512))).not.toBe(0);
  isAway = false;
  expect(await client.request(read(0, 512))).toBe(0);
  expect((await client.read(512)).equals(content.subarray(0, 512))).toBe(true);
  await server.stop();
});

test("a server that a redirect led to and that has gone is replaced by the first", async () => {
  let location = "";
  const first = await startWeb(content, {
    handle(_request, response) {
      if (location !== "") response.writeHead(302, { location }).end();
      return location !== "";
    },
  });
  let isAway = false;
  const other = await startWeb(content, {
    handle(_request, response) {
      if (isAway) response.destroy();
      return isAway;
    },
  });
  location = other.url;
  const server = await startServer(["http", first.url, "retries=1", "retry-delay=10ms"]);
  const client = await RawClient.open(server.socket);
  isAway = true;
  location = "";
  expect(await client.request(read(0, 512))).toBe(0);
  expect((await client.read(512)).equals(content.subarray(0, 512))).toBe(true);
  await server.stop();
});

test("a redirect to a scheme that protocols= does not have is not followed", async () => {
  const { url } = await startWeb(content, {
    handle(_request, response) {
      response.writeHead(302, { location: "https://127.0.0.1:1/" }).end();
      return true;
    },
  });
  expect(await refusal(url, "protocols=http")).toContain("or that protocols= does not allow");
  await expectToServe((await startWeb(content)).url, "protocols=http,ftp", "tcp-nodelay=false");
});
