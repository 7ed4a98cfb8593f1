// The http plugin, before web servers that do what they should.

import { randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { runOk } from "../support/command.js";
import { MIB } from "../support/fixtures.js";
import { hasNginx, startNginx } from "../support/nginx.js";
import { encodeRequest, RawClient } from "../support/raw-client.js";
import { eventually, startServer, temporaryDirectory } from "../support/server.js";
import { read, refusal } from "../support/web-disk.js";
import { ETAG, startWeb } from "../support/web-server.js";

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
    const [alone, ...waiting] = reads.map(([offset, length], i) =>
      encodeRequest({ ...read(offset, length), cookie: BigInt(i) }),
    ) as [Buffer, ...Buffer[]];
    client.send(alone);
    await eventually("the first request", () => ranges.length > 0 || undefined);
    client.send(...waiting);
    // What comes behind them and is refused at once is answered when all of them wait.
    expect(await client.request({ ...read(content.length, 1), cookie: 99n })).not.toBe(0);
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

test.each([
  [["ftp://x/y"], "url=ftp://x/y: not an http: or https: URL"],
  [[], "the parameter url= is missing"],
  [["http://127.0.0.1:1/"], "http://127.0.0.1:1/: cannot connect: Connection refused"],
  [["http://nosuch.invalid/"], "http://nosuch.invalid/: there is no such host"],
  [["http://x/", "connections=0"], "connections=0: use a number from 1"],
  [["http://x/", "header=x"], "header=: expected NAME: VALUE"],
  [["http://x/", "deadline=0"], "deadline=0: use a time from 1ms"],
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
