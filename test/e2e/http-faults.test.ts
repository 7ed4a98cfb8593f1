// The http plugin, before web servers that are away, slow, wrong and unfaithful.

import { spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import type { ServerResponse } from "node:http";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { MIB } from "../support/fixtures.js";
import { ERRNO } from "../support/protocol.js";
import { RawClient } from "../support/raw-client.js";
import {
  asyncnbd,
  eventually,
  type RunningServer,
  startServer,
  temporaryDirectory,
} from "../support/server.js";
import { read } from "../support/web-disk.js";
import { ETAG, startWeb, type WebOptions } from "../support/web-server.js";

const { EPERM, EIO } = ERRNO;
const content = randomBytes(MIB);

interface Session {
  readonly server: RunningServer;
  readonly client: RawClient;
  /** Reads 4 KiB: what NBD says, after the bytes have been compared. */
  ask(offset?: number): Promise<number>;
}

async function serve(web: WebOptions, ...parameters: readonly string[]): Promise<Session> {
  const { url } = await startWeb(content, web);
  const server = await startServer(["http", url, "retry-delay=1ms", ...parameters]);
  const client = await RawClient.open(server.socket);
  const ask = async (offset = 0): Promise<number> => {
    const error = await client.request(read(offset, 4096));
    if (error !== 0) return error;
    const bytes = await client.read(4096);
    expect(bytes.equals(content.subarray(offset, offset + 4096))).toBe(true);
    return 0;
  };
  return { server, client, ask };
}

/** The headers of the answer to a read of the first 4 KiB. */
const begin = (response: ServerResponse, headers: Record<string, string | number> = {}): void => {
  response.writeHead(206, {
    etag: ETAG,
    "content-length": 4096,
    "content-range": `bytes 0-4095/${MIB}`,
    ...headers,
  });
};

describe("a request is made again", () => {
  test("after errors of the server, and after half an answer", async () => {
    const { server, ask } = await serve({
      handle(_request, response, count) {
        if (count === 1) response.writeHead(503, { "retry-after": "0" }).end();
        else if (count === 2) response.socket?.destroy();
        else if (count === 3) {
          begin(response);
          response.write(Buffer.alloc(100), () => response.socket?.destroy());
        } else if (count === 4) response.writeHead(500).end("x".repeat(MIB));
        else return false;
        return true;
      },
    });
    expect(await ask()).toBe(0);
    const { stderr } = await server.stop();
    expect(stderr).toMatch(/http: http:\S+: the server said 503 .*; retrying/);
  });

  test.each([
    ["seconds", () => "1"],
    ["a date", () => new Date(Date.now() + 2000).toUTCString()],
  ])("after the server's Retry-After in %s", async (_unit, after) => {
    const times: number[] = [];
    const { server, ask } = await serve({
      handle(_request, response, count) {
        times.push(performance.now());
        if (count === 1) response.writeHead(429, { "retry-after": after() }).end();
        return count === 1;
      },
    });
    expect(await ask()).toBe(0);
    expect((times[2] as number) - (times[1] as number)).toBeGreaterThan(900);
    await server.stop();
  });

  test("a limited number of times, without effect on the next request", async () => {
    let isIll = true;
    let attempts = 0;
    const { server, ask } = await serve(
      {
        handle(_request, response, count) {
          if (count === 0 || !isIll) return false;
          attempts++;
          response.writeHead(500).end();
          return true;
        },
      },
      "retries=2",
    );
    expect(await ask()).toBe(EIO);
    expect(attempts).toBe(3);
    isIll = false;
    expect(await ask()).toBe(0);
    await server.stop();
  });

  test("after silence of the server", async () => {
    const { server, ask } = await serve(
      { handle: (_request, _response, count) => count === 1 },
      "timeout=200ms",
    );
    expect(await ask()).toBe(0);
    await server.stop();
  });

  test("if the server sends single bytes slowly", async () => {
    const { server, ask } = await serve(
      {
        handle(_request, response, count) {
          if (count !== 1) return false;
          begin(response);
          const timer = setInterval(() => response.write("x"), 20);
          response.on("close", () => clearInterval(timer));
          return true;
        },
      },
      "timeout=200ms",
    );
    expect(await ask()).toBe(0);
    await server.stop();
  });

  test("after the server was away for a while", async () => {
    const first = await startWeb(content);
    const server = await startServer(["http", first.url, "retry-delay=20ms", "retries=100"]);
    const client = await RawClient.open(server.socket);
    await first.close();
    client.sendRequest(read(4096, 4096));
    await eventually("a warning", () =>
      server.stderr().includes("cannot connect: Connection refused; retrying") ? true : undefined,
    );
    await startWeb(content, { listen: { port: first.port, host: "127.0.0.1" } });
    expect((await client.readReply()).error).toBe(0);
    expect((await client.read(4096)).equals(content.subarray(4096, 8192))).toBe(true);
    await server.stop();
  });
});

describe("a request fails", () => {
  test("at its deadline, with all attempts", async () => {
    const { server, ask } = await serve(
      {
        handle(_request, response, count) {
          if (count === 0) return false;
          response.writeHead(503).end();
          return true;
        },
      },
      "retries=1000",
      "deadline=500ms",
    );
    const began = performance.now();
    expect(await ask()).toBe(EIO);
    expect(performance.now() - began).toBeLessThan(5000);
    await server.stop();
  });

  test("at its deadline, if the server is silent or all connections are busy", async () => {
    const { server, client } = await serve(
      { handle: (_request, _response, count) => count > 0 },
      "connections=1",
      "deadline=500ms",
    );
    const began = performance.now();
    for (let i = 0; i < 8; i++)
      client.sendRequest({ ...read(i * 65_536, 4096), cookie: BigInt(i) });
    for (let i = 0; i < 8; i++) expect((await client.readReply()).error).toBe(EIO);
    // Those that wait have the same one, and not each its own after the one before.
    expect(performance.now() - began).toBeLessThan(3500);
    const { stderr } = await server.stop();
    expect(stderr).toContain("the server has not answered by the deadline");
  });

  test("with EPERM if the server no longer allows it", async () => {
    const { server, ask } = await serve({
      handle(_request, response, count) {
        if (count !== 1) return false;
        response.writeHead(403).end();
        return true;
      },
    });
    expect(await ask()).toBe(EPERM);
    expect(await ask()).toBe(0);
    await server.stop();
  });

  const wrongAnswers: [string, (response: ServerResponse) => void][] = [
    [
      "another range",
      (response) => {
        begin(response, { "content-range": `bytes 4096-8191/${MIB}` });
        response.end(content.subarray(4096, 8192));
      },
    ],
    [
      "a shorter range",
      (response) => {
        begin(response, { "content-range": `bytes 0-99/${MIB}`, "content-length": 100 });
        response.end(content.subarray(0, 100));
      },
    ],
    [
      "more bytes than the range has",
      (response) => {
        begin(response, { "content-length": 8192 });
        response.end(content.subarray(0, 8192));
      },
    ],
    [
      "no range",
      (response) => {
        response.writeHead(206, { etag: ETAG, "content-length": 4096 });
        response.end(content.subarray(0, 4096));
      },
    ],
    ["the whole file", (response) => void response.writeHead(200, { etag: ETAG }).end(content)],
    [
      "what never ends",
      (response) => {
        response.writeHead(206, { etag: ETAG, "content-range": `bytes 0-4095/${MIB}` });
        const more = (): void => {
          while (!response.destroyed && response.write(content));
        };
        response.on("drain", more);
        more();
      },
    ],
    [
      "headers that never end",
      ({ socket }) => {
        const more = (): void => {
          while (!socket?.destroyed && socket?.write(`X-${"y".repeat(1000)}: z\r\n`));
        };
        socket?.on("drain", more);
        socket?.write("HTTP/1.1 206 Partial Content\r\n");
        more();
      },
    ],
    [
      "compressed bytes",
      (response) => {
        begin(response, { "content-encoding": "gzip" });
        response.end(content.subarray(0, 4096));
      },
    ],
    ["no HTTP", ({ socket }) => void socket?.end("\0\0\0 nothing of the kind\r\n\r\n")],
  ];
  test.each(wrongAnswers)("if the server sends %s", async (_what, answer) => {
    const { server, ask } = await serve(
      {
        handle(_request, response, count) {
          if (count === 0 || count > 3) return false;
          answer(response);
          return true;
        },
      },
      "retries=0",
    );
    for (let i = 0; i < 3; i++) expect(await ask()).toBe(EIO);
    expect(await ask()).toBe(0);
    await server.stop();
  });
});

describe("a changed file is an error, never mixed data, recognized", () => {
  test("by its ETag", async () => {
    let etag = ETAG;
    const { server, ask } = await serve({ etag: () => etag });
    expect(await ask()).toBe(0);
    etag = '"two"';
    expect(await ask()).toBe(EIO);
    expect((await server.stop()).stderr).toContain("the file has changed on the server");
  });

  test("by its date", async () => {
    let date = "Sat, 28 Nov 2026 09:00:00 GMT";
    const { server, ask } = await serve({ etag: () => undefined, lastModified: () => date });
    expect(await ask()).toBe(0);
    date = "Sat, 28 Nov 2026 09:00:01 GMT";
    expect(await ask()).toBe(EIO);
    expect((await server.stop()).stderr).toContain("the file has changed on the server");
  });

  test("by its size", async () => {
    const { server, ask } = await serve({
      etag: () => undefined,
      handle(_request, response, count) {
        if (count !== 1) return false;
        begin(response, { "content-range": `bytes 0-4095/${MIB + 1}` });
        response.end(content.subarray(0, 4096));
        return true;
      },
    });
    expect(await ask()).toBe(EIO);
    expect((await server.stop()).stderr).toContain("the file has changed on the server");
  });
});

test("a web server that hangs does not delay our end beyond the grace period", async () => {
  const { url } = await startWeb(content, { handle: (_request, _response, count) => count > 0 });
  const server = await startServer(["http", url], { options: ["--grace=1"] });
  const client = await RawClient.open(server.socket);
  client.sendRequest(read(0, 4096));
  await new Promise((resolve) => setTimeout(resolve, 200));
  const began = performance.now();
  server.kill("SIGTERM");
  await server.ended;
  expect(performance.now() - began).toBeLessThan(10_000);
});

/** Whether a process may have an /etc/hosts of its own. */
const hasOwnHosts = spawnSync("unshare", ["--mount", "true"]).status === 0;

test.skipIf(!hasOwnHosts)(
  "a name that cannot be resolved for a while is looked up again",
  async () => {
    const { url } = await startWeb(content, {
      handle(request, response, count) {
        if (count === 0 || request.headers.host?.startsWith("disk.invalid")) return false;
        response.writeHead(302, { location: url.replace("127.0.0.1", "disk.invalid") }).end();
        return true;
      },
    });
    const hosts = join(temporaryDirectory(), "hosts");
    writeFileSync(hosts, "");
    const shell = `mount --bind '${hosts}' /etc/hosts && exec "$0" "$@"`;
    const command = ["unshare", "--mount", "sh", "-c", shell, ...asyncnbd];
    const server = await startServer(["http", url, "retry-delay=1ms", "retries=10000"], {
      command,
    });
    const client = await RawClient.open(server.socket);
    client.sendRequest(read(0, 4096));
    await eventually("a warning", () =>
      server.stderr().includes("disk.img: there is no such host; retrying") ? true : undefined,
    );
    writeFileSync(hosts, "127.0.0.1 disk.invalid\n");
    expect((await client.readReply()).error).toBe(0);
    expect((await client.read(4096)).equals(content.subarray(0, 4096))).toBe(true);
    await server.stop();
  },
);
