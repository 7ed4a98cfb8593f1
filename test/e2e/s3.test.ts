// The shipped s3 plugin, with a real S3 server (Ceph's radosgw): disks of one object and of many.

import { randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { checkModel } from "../../src/testing/index.js";
import { runOk } from "../support/command.js";
import { connectTo, copyInAndOut, read, write } from "../support/disk-client.js";
import { randomLoad, verifyByFio } from "../support/fio.js";
import { MIB } from "../support/fixtures.js";
import { CMD, ERRNO, EXPORT_FLAG, FLAG } from "../support/protocol.js";
import { refusalOf } from "../support/refusal.js";
import { startProxy } from "../support/s3-proxy.js";
import { BUCKET, S3_ENVIRONMENT, startS3 } from "../support/s3-server.js";
import {
  eventually,
  type RunningServer,
  startServer,
  temporaryDirectory,
} from "../support/server.js";

const s3 = startS3();
const KIB = 1024;
const OBJECT = 64 * KIB;

const env = S3_ENVIRONMENT;
let place: readonly string[];

beforeAll(() => {
  place = [`endpoint-url=${s3.url}`, `bucket=${BUCKET}`];
});

let volumes = 0;
const newKey = (): string => `volume${++volumes}`;
const nameOf = (key: string, object: number): string =>
  `${key}/${object.toString(16).padStart(16, "0")}`;
const volumeOf = (key: string, size = "4M"): string[] => [
  `key=${key}`,
  `size=${size}`,
  "object-size=64K",
];

const serve = (...parameters: readonly string[]): Promise<RunningServer> =>
  startServer(["s3", ...place, ...parameters], { env });

const refusal = (...parameters: readonly string[]): Promise<string> =>
  refusalOf(["s3", ...place, ...parameters], { env });

describe("an object", () => {
  test.each(["disk.img", "a dir/a+b & c=d~é%/'x' (1)!*.img", "a/../b/./c"])(
    "%s is a read-only disk",
    async (key) => {
      const content = randomBytes(3 * MIB + 4096);
      await s3.store.put(BUCKET, key, content);
      const server = await serve(`key=${key}`);
      const copied = join(temporaryDirectory(), "copied");
      await runOk(["nbdcopy", server.uri, copied]);
      expect(readFileSync(copied).equals(content)).toBe(true);
      const client = await connectTo(server);
      expect(client.flags & EXPORT_FLAG.READ_ONLY).toBe(EXPORT_FLAG.READ_ONLY);
      expect((await read(client, 4095, 2)).equals(content.subarray(4095, 4097))).toBe(true);
    },
  );

  test("that is replaced or removed while served is an error, logged once", async () => {
    await s3.store.put(BUCKET, "changed", randomBytes(MIB));
    const server = await serve("key=changed");
    const client = await connectTo(server);
    await read(client, 0, 512);
    await s3.store.put(BUCKET, "changed", randomBytes(MIB));
    expect((await client.read(0n, 512)).error).toBe(ERRNO.EIO);
    expect((await client.read(512n, 512)).error).toBe(ERRNO.EIO);
    expect(
      server.stderr().match(/the object changed was replaced while it was served/g),
    ).toHaveLength(1);
    await s3.store.send("DELETE", `/${BUCKET}/changed`);
    expect((await client.read(0n, 512)).error).toBe(ERRNO.EIO);
  });
});

describe("a volume", () => {
  test("is copied in and out, with its holes, in objects of nbdkit's layout", async () => {
    const key = newKey();
    const server = await serve(...volumeOf(key, "16M"));
    const content = await copyInAndOut(server, 16 * MIB);

    const names = await s3.store.list(BUCKET, `${key}/`);
    const expected = [];
    for (let object = 0; object < content.length / OBJECT; object++) {
      const part = content.subarray(object * OBJECT, (object + 1) * OBJECT);
      if (part.every((byte) => byte === 0)) continue;
      expected.push(nameOf(key, object));
      expect((await s3.store.get(BUCKET, nameOf(key, object)))?.equals(part)).toBe(true);
    }
    expect(names).toEqual(expected);
  });

  test("made by another program is served", async () => {
    const key = newKey();
    const [first, last] = [randomBytes(OBJECT), randomBytes(OBJECT)];
    await s3.store.put(BUCKET, nameOf(key, 1), first);
    await s3.store.put(BUCKET, nameOf(key, 63), last);
    await s3.store.put(BUCKET, `${key}/notes`, randomBytes(7)); // of somebody else
    const client = await connectTo(await serve(...volumeOf(key)));
    expect(
      (await read(client, 0, 2 * OBJECT)).equals(Buffer.concat([Buffer.alloc(OBJECT), first])),
    ).toBe(true);
    await write(client, 63 * OBJECT + 10, Buffer.from("abc"));
    last.write("abc", 10);
    expect((await read(client, 63 * OBJECT, OBJECT)).equals(last)).toBe(true);
    expect((await s3.store.get(BUCKET, nameOf(key, 63)))?.equals(last)).toBe(true);
  });

  test("agrees with a model under random requests", async () => {
    Object.assign(process.env, env);
    const [endpoint] = place;
    await checkModel(
      () => ({
        plugin: "s3",
        config: {
          "endpoint-url": endpoint?.slice("endpoint-url=".length) ?? "",
          ...{ bucket: BUCKET, key: newKey(), size: "64K", "object-size": "4K" },
        },
      }),
      { seed: 1, cases: 10 },
    );
  });

  test("verifies under random writes and reads at depth 64", async () => {
    const server = await serve(...volumeOf(newKey()));
    await verifyByFio(server, randomLoad(64, "4m", "8m"));
  });

  test("combines most of 64 parallel writes to one object", async () => {
    const proxy = await startProxy(s3.ceph.s3Port);
    const key = newKey();
    const server = await serve(...volumeOf(key), `endpoint-url=${proxy.url}`);
    const client = await connectTo(server);
    const content = randomBytes(OBJECT);
    const writes = Array.from({ length: 64 }, (_, i) => ({
      type: CMD.WRITE,
      offset: BigInt(i * KIB),
      payload: content.subarray(i * KIB, (i + 1) * KIB),
    }));
    proxy.seen.length = 0;
    const replies = await client.requests(...writes);
    expect(replies.map(({ error }) => error)).toEqual(writes.map(() => 0));
    expect((await s3.store.get(BUCKET, nameOf(key, 0)))?.equals(content)).toBe(true);
    expect(proxy.seen.filter((words) => words.startsWith("PUT")).length).toBeLessThan(16);
  });

  test("writes a whole object without reading it", async () => {
    const proxy = await startProxy(s3.ceph.s3Port);
    const server = await serve(...volumeOf(newKey()), `endpoint-url=${proxy.url}`);
    const client = await connectTo(server);
    proxy.seen.length = 0;
    await write(client, OBJECT, randomBytes(OBJECT));
    await write(client, OBJECT, randomBytes(OBJECT));
    expect(proxy.seen.map((words) => words.split(" ")[0])).toEqual(["PUT", "PUT"]);
  });

  test("removes trimmed or zeroed objects, and zeroes parts of others", async () => {
    const key = newKey();
    const client = await connectTo(await serve(...volumeOf(key, "1M")));
    const content = randomBytes(MIB);
    await write(client, 0, content);
    const zero = (type: number, offset: number, length: number, flags = 0) =>
      client.request({ type, offset: BigInt(offset), length, flags });
    expect((await zero(CMD.WRITE_ZEROES, 100, 3 * OBJECT, FLAG.FUA)).error).toBe(0);
    content.fill(0, 100, 100 + 3 * OBJECT);
    expect((await zero(CMD.WRITE_ZEROES, 5 * OBJECT + 7, 9)).error).toBe(0);
    content.fill(0, 5 * OBJECT + 7, 5 * OBJECT + 16);
    expect((await zero(CMD.WRITE_ZEROES, 0, 10, FLAG.FAST_ZERO)).error).toBe(ERRNO.ENOTSUP);
    expect((await zero(CMD.TRIM, 8 * OBJECT - 1, 6 * OBJECT)).error).toBe(0);
    content.fill(0, 8 * OBJECT, 13 * OBJECT);
    expect((await client.request({ type: CMD.FLUSH })).error).toBe(0);
    expect((await read(client, 0, MIB)).equals(content)).toBe(true);
    const left = [0, 3, 4, 5, 6, 7, 13, 14, 15].map((object) => nameOf(key, object));
    expect(await s3.store.list(BUCKET, `${key}/`)).toEqual(left);

    const id = client.contexts.get("base:allocation") as number;
    const request = { type: CMD.BLOCK_STATUS, offset: BigInt(OBJECT - 5), length: 14 * OBJECT };
    expect((await client.request(request)).statuses.get(id)).toEqual([
      [5n, 0n],
      [BigInt(2 * OBJECT), 3n],
      [BigInt(5 * OBJECT), 0n],
      [BigInt(5 * OBJECT), 3n],
      [BigInt(2 * OBJECT), 0n], // the last one is told to its end
    ]);
  });

  test("of many objects is listed in pages", async () => {
    const parameters = [`key=${newKey()}`, "size=12M", "object-size=4K"];
    const server = await serve(...parameters);
    const client = await connectTo(server);
    const content = randomBytes(12 * MIB);
    content.fill(0, 5 * MIB, 5 * MIB + 4096);
    const file = join(temporaryDirectory(), "in");
    writeFileSync(file, content);
    await runOk(["nbdcopy", file, server.uri]);
    const id = client.contexts.get("base:allocation") as number;
    const request = { type: CMD.BLOCK_STATUS, offset: 0n, length: 12 * MIB };
    expect((await client.request(request)).statuses.get(id)).toEqual([
      [BigInt(5 * MIB), 0n],
      [4096n, 3n],
      [BigInt(7 * MIB - 4096), 0n],
    ]);
    expect((await client.request({ type: CMD.TRIM, offset: 0n, length: 12 * MIB })).error).toBe(0);
    expect((await client.request(request)).statuses.get(id)).toEqual([[BigInt(12 * MIB), 3n]]);
    await server.stop();
    await serve(...parameters);
  }, 60_000);

  test("may have objects larger than the store's first answer", async () => {
    const server = await serve(`key=${newKey()}`, "size=24M", "object-size=8M");
    const client = await connectTo(server);
    const data = randomBytes(9 * MIB);
    await write(client, 7 * MIB + 5, data);
    expect((await read(client, 7 * MIB + 5, data.length)).equals(data)).toBe(true);
  });

  test("with single-writer=true, and with read-only=true", async () => {
    const key = newKey();
    const client = await connectTo(await serve(...volumeOf(key), "single-writer=true"));
    const data = randomBytes(OBJECT + 10);
    await write(client, 5, data);
    expect((await read(client, 5, data.length)).equals(data)).toBe(true);
    const reader = await connectTo(await serve(...volumeOf(key), "read-only=true"));
    expect(reader.flags & EXPORT_FLAG.READ_ONLY).toBe(EXPORT_FLAG.READ_ONLY);
    expect((await read(reader, 5, data.length)).equals(data)).toBe(true);
  });
});

describe("two writers of one volume", () => {
  test("one stops, and none of the other's data is lost", async () => {
    const key = newKey();
    const [one, other] = [await serve(...volumeOf(key)), await serve(...volumeOf(key))];
    const [a, b] = [await connectTo(one), await connectTo(other)];
    const first = randomBytes(4096);
    await write(a, 0, first);
    const second = randomBytes(4096);
    await write(b, 8192, second); // sees what the first one has written, and keeps it
    const late = { type: CMD.WRITE, offset: 4096n, payload: randomBytes(4096) };
    expect((await a.request(late)).error).toBe(ERRNO.EPERM);
    expect((await a.request({ type: CMD.TRIM, offset: 0n, length: OBJECT })).error).toBe(
      ERRNO.EPERM,
    );
    await eventually(
      "words about it",
      () => one.stderr().includes("another writer has changed the object") || undefined,
    );
    expect((await connectTo(one)).flags & EXPORT_FLAG.READ_ONLY).toBe(EXPORT_FLAG.READ_ONLY);
    expect((await read(b, 0, 4096)).equals(first)).toBe(true);
    expect((await read(b, 4096, 4096)).equals(Buffer.alloc(4096))).toBe(true);
    expect((await read(b, 8192, 4096)).equals(second)).toBe(true);
    await write(b, 4096, second);
  });

  test("that write all of it at once lose nothing that was acknowledged", async () => {
    const key = newKey();
    const servers = [await serve(...volumeOf(key, "64K")), await serve(...volumeOf(key, "64K"))];
    const clients = await Promise.all(servers.map((server) => connectTo(server)));
    const written = await Promise.all(
      clients.map(async (client, side) => {
        const offsets = [];
        for (let i = side; i < 64; i += 2) {
          const payload = Buffer.alloc(KIB, side + 1);
          const reply = await client.request({ type: CMD.WRITE, offset: BigInt(i * KIB), payload });
          if (reply.error === 0) offsets.push([i * KIB, side + 1] as const);
        }
        return offsets;
      }),
    );
    const content = await s3.store.get(BUCKET, nameOf(key, 0));
    expect(Math.max(...written.map(({ length }) => length))).toBe(32);
    for (const [offset, byte] of written.flat())
      expect([offset, content?.[offset]]).toEqual([offset, byte]);
  });
});

describe("mistakes are reported at the start", () => {
  test.each([
    [["key=x", "bucket="], "bucket= is missing"],
    [[], "key= is missing"],
    [["key=x", "size=1M"], "size= and object-size= belong together"],
    [["key=x", "size=1M", "object-size=60K"], "size= must be a multiple of object-size="],
    [["key=x", "size=1G", "object-size=1G"], "object-size=: at most 64M"],
    [["key=x", "nosuch=1"], 'unknown parameter "nosuch"'],
    [["key=x", "access-key=a"], "access-key= and secret-key= belong together"],
    [["key=x", "sse=rot13"], "sse=rot13: use AES256 or aws:kms"],
    [["key=x", "endpoint-url=ftp://host"], "endpoint-url=ftp://host: use http://HOST"],
    [["key=nosuch"], 'there is no object "nosuch" in the bucket "bucket"'],
    [["key=x", "bucket=nosuch"], 'there is no bucket "nosuch"'],
    [[...volumeOf("x"), "bucket=nosuch"], 'there is no bucket "nosuch"'],
    [["key=x", "anonymous=true"], "the store does not allow it without keys"],
    [["key=x", "access-key=nosuch", "secret-key=x"], "the store does not know the access key"],
    [["key=x", "access-key=test", "secret-key=x"], "the secret key does not belong"],
    [["key=x", "profile=nosuch"], 'there is no profile "nosuch" in '],
    [["key=x", "endpoint-url=http://127.0.0.1:1", "retries=0"], "x: http://127.0.0.1:1: cannot"],
  ])("%j", async (parameters, words) => {
    expect(await refusal(...parameters)).toContain(words);
  });

  test("a volume that is served as an object", async () => {
    const key = newKey();
    await s3.store.put(BUCKET, nameOf(key, 5), randomBytes(1000));
    expect(await refusal(`key=${key}`)).toContain(
      `there is ${nameOf(key, 5)}, which looks like a volume: give its size= and object-size=1000`,
    );
  });

  test("a volume without objects opened for reading", async () => {
    const key = newKey();
    const words = "there are no objects";
    expect(await refusal(...volumeOf(key), "read-only=true")).toContain(`${key}/: ${words}`);
    const writer = await serve(...volumeOf(key));
    expect(writer.stderr()).toMatch(`warning: ${key}/: ${words}, so the disk is empty`);
    const readonly = await startServer(["s3", ...place, ...volumeOf(key)], {
      env,
      options: ["-r"],
    });
    await expect(connectTo(readonly)).rejects.toThrow();
    expect(readonly.stderr()).toContain(`error: ${key}/: ${words}`);
    await write(await connectTo(writer), 0, randomBytes(512));
    await connectTo(readonly);
    expect((await serve(...volumeOf(key))).stderr()).not.toContain(words);
  });

  test("objects of another length, or past the end", async () => {
    const key = newKey();
    await s3.store.put(BUCKET, nameOf(key, 2), randomBytes(1000));
    expect(await refusal(...volumeOf(key))).toContain(
      `${nameOf(key, 2)} has 1000 bytes, but object-size= is 65536`,
    );
    const long = newKey();
    await s3.store.put(BUCKET, nameOf(long, 64), randomBytes(OBJECT));
    expect(await refusal(...volumeOf(long))).toContain(
      `${nameOf(long, 64)}, which is past the end that size= gives`,
    );
  });

  test("an object whose length changes later is named when it is used", async () => {
    const key = newKey();
    const server = await serve(...volumeOf(key));
    const client = await connectTo(server);
    await s3.store.put(BUCKET, nameOf(key, 1), randomBytes(1000));
    expect((await client.read(BigInt(OBJECT), 512)).error).toBe(ERRNO.EIO);
    expect((await client.read(BigInt(OBJECT + 2000), 512)).error).toBe(ERRNO.EIO);
    const late = { type: CMD.WRITE, offset: BigInt(OBJECT), payload: randomBytes(512) };
    expect((await client.request(late)).error).not.toBe(0);
    expect(server.stderr()).toContain(`${nameOf(key, 1)} has 1000 bytes`);
  });
});
