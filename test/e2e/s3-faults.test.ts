// The shipped s3 plugin and stores that fail: a real S3 server (Ceph's radosgw) behind a proxy that
// loses and delays; and stubs for what that server cannot show.

import { randomBytes } from "node:crypto";
import type { IncomingMessage } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { beforeAll, describe, expect, test } from "vitest";
import { ACCESS_KEY, startObjectStore } from "../support/object-store.js";
import { CMD, ERRNO, EXPORT_FLAG } from "../support/protocol.js";
import { refusalOf } from "../support/refusal.js";
import { errorDocument, type Fate, startProxy } from "../support/s3-proxy.js";
import { BUCKET, S3_ENVIRONMENT, startS3 } from "../support/s3-server.js";
import { eventually, type RunningServer, startServer } from "../support/server.js";
import { StrictClient } from "../support/strict-client.js";

const s3 = startS3();
const OBJECT = 64 * 1024;
const env = S3_ENVIRONMENT;

// Which takes a store longer than all others.
beforeAll(() => s3.store.put(BUCKET, "first", randomBytes(1)));

let volumes = 0;
const newVolume = (size = "2M"): string[] => [
  `bucket=${BUCKET}`,
  `key=volume${++volumes}`,
  `size=${size}`,
  "object-size=64K",
];

const serve = (url: string, ...parameters: readonly string[]): Promise<RunningServer> =>
  startServer(["s3", `endpoint-url=${url}`, "retry-delay=20ms", ...parameters], {
    env,
    options: ["--grace=2"],
  });

const refusal = (url: string, ...parameters: readonly string[]): Promise<string> =>
  refusalOf(["s3", `endpoint-url=${url}`, ...parameters], { env });

const connect = (server: RunningServer): Promise<StrictClient> =>
  StrictClient.connect(server.socket, { style: "structured" });

test("a trim succeeds whose retry the store refuses because the first attempt succeeded", async () => {
  const proxy = await startProxy(s3.ceph.s3Port);
  let attempts = 0;
  proxy.fate = ({ method, headers }) => {
    const condition = headers["if-match"];
    if (method !== "DELETE" || condition === undefined) return "pass";
    const isRefused = condition.includes("00000000") || ++attempts > 1;
    if (isRefused) return { status: 412, body: errorDocument("PreconditionFailed") };
    return "lose the answer";
  };
  const server = await serve(proxy.url, ...newVolume());
  const client = await connect(server);
  const write = { type: CMD.WRITE, payload: randomBytes(OBJECT) };
  expect((await client.request(write)).error).toBe(0);
  expect((await client.request({ type: CMD.TRIM, offset: 0n, length: OBJECT })).error).toBe(0);
  expect(attempts).toBe(2);
  expect((await client.read(0n, 512)).data.equals(Buffer.alloc(512))).toBe(true);
  expect((await client.request(write)).error).toBe(0);
});

describe("another server in place of the store", () => {
  test("that answers 404 does not zero the rest of an object", async () => {
    const proxy = await startProxy(s3.ceph.s3Port);
    const client = await connect(await serve(proxy.url, ...newVolume(), "single-writer=true"));
    const [old, payload] = [randomBytes(OBJECT), randomBytes(512)];
    expect((await client.request({ type: CMD.WRITE, payload: old })).error).toBe(0);
    proxy.fate = ({ method }) =>
      method === "GET" ? { status: 404, body: "<html>There is no such page</html>" } : "pass";
    const write = { type: CMD.WRITE, offset: 512n, payload };
    expect((await client.request(write)).error).toBe(ERRNO.EIO);
    proxy.fate = () => "pass";
    expect((await client.read(0n, OBJECT)).data.equals(old)).toBe(true);
  });

  test.each([
    ["a volume", newVolume],
    ["an object", () => [`bucket=${BUCKET}`, "key=ranges"]],
  ])("that sends the wrong bytes of %s is an error", async (_, parameters) => {
    await s3.store.put(BUCKET, "ranges", randomBytes(OBJECT));
    const proxy = await startProxy(s3.ceph.s3Port);
    const server = await serve(proxy.url, ...parameters());
    const client = await connect(server);
    if (parameters === newVolume)
      await client.request({ type: CMD.WRITE, payload: randomBytes(OBJECT) });
    const etag = (await s3.store.send("HEAD", `/${BUCKET}/ranges`)).headers.etag ?? "";
    proxy.fate = () => ({
      status: 206,
      headers: { "content-range": `bytes 0-511/${OBJECT}`, etag },
      body: "x".repeat(512),
    });
    expect((await client.read(0n, 512)).error).toBe(0);
    expect((await client.read(512n, 512)).error).toBe(ERRNO.EIO);
    expect(server.stderr()).toContain("did not send the requested range");
  });
});

describe("a store that is away", () => {
  test("causes errors after the deadline, until it is back", async () => {
    const proxy = await startProxy(s3.ceph.s3Port);
    const server = await serve(proxy.url, ...newVolume(), "deadline=1s");
    const client = await connect(server);
    const payload = randomBytes(4096);
    proxy.fate = () => "lose the request";
    const write = { type: CMD.WRITE, offset: 512n, payload };
    const began = Date.now();
    expect((await client.request(write)).error).toBe(ERRNO.EIO);
    expect((await client.read(0n, 512)).error).toBe(ERRNO.EIO);
    expect(Date.now() - began).toBeLessThan(10_000);
    expect(server.stderr()).toContain("cannot read the object volume");
    proxy.fate = () => "pass";
    expect((await client.request(write)).error).toBe(0);
    expect((await client.read(512n, 4096)).data.equals(payload)).toBe(true);
  });

  test("is logged once at its beginning and once at its end", async () => {
    const proxy = await startProxy(s3.ceph.s3Port);
    const server = await serve(proxy.url, ...newVolume());
    const client = await connect(server);
    proxy.fate = () => "lose the request";
    const reads = client.requests(
      ...Array.from({ length: 8 }, (_, i) => ({ type: CMD.READ, offset: BigInt(i), length: 512 })),
    );
    await sleep(1500);
    proxy.fate = () => "pass";
    for (const { error } of await reads) expect(error).toBe(0);
    const told = () => server.stderr().includes("answers again") || undefined;
    await eventually("words about it", told);
    const lines = server
      .stderr()
      .split("\n")
      .filter((line) => line.includes(proxy.url));
    expect(lines).toEqual([
      expect.stringMatching(/warning: .*the connection was lost.*; retrying$/),
      expect.stringMatching(/warning: .*answers again, after \d+ s$/),
    ]);
  });

  test("does not keep the server from ending", async () => {
    const proxy = await startProxy(s3.ceph.s3Port);
    const server = await serve(proxy.url, ...newVolume());
    const client = await connect(server);
    proxy.fate = () => "lose the request";
    client.request({ type: CMD.WRITE, payload: randomBytes(512) }).catch(() => {});
    await sleep(100);
    server.kill("SIGTERM");
    await server.ended;
  });

  test("and full fails writes with ENOSPC", async () => {
    const proxy = await startProxy(s3.ceph.s3Port);
    const client = await connect(await serve(proxy.url, ...newVolume()));
    proxy.fate = ({ method }) =>
      method === "PUT" ? { status: 403, body: errorDocument("QuotaExceeded") } : "pass";
    const write = { type: CMD.WRITE, offset: 512n, payload: randomBytes(512) };
    expect((await client.request(write)).error).toBe(ERRNO.ENOSPC);
    proxy.fate = () => "pass";
    expect((await client.request(write)).error).toBe(0);
  });
});

describe("stubs of stores:", () => {
  const answers = async (fate: Fate): Promise<string> => {
    const stub = await startProxy();
    stub.fate = () => fate;
    return stub.url;
  };

  test("one without conditions needs single-writer=true", async () => {
    const stub = await startObjectStore();
    const keys = [`access-key=${ACCESS_KEY}`, "secret-key=x"];
    const words = await refusal(stub.url, ...newVolume(), ...keys);
    expect(words).toContain("give single-writer=true if no other server writes to this volume");
    expect([...stub.objects.keys()]).toEqual([]);
    const server = await serve(stub.url, ...newVolume(), ...keys, "single-writer=true");
    const client = await connect(server);
    const payload = randomBytes(OBJECT + 512);
    expect((await client.request({ type: CMD.WRITE, offset: 512n, payload })).error).toBe(0);
    expect((await client.read(512n, payload.length)).data.equals(payload)).toBe(true);
  });

  test.each<[string, Fate, string]>([
    [
      "a bucket in another region",
      {
        status: 301,
        headers: { "x-amz-bucket-region": "eu-west-1" },
        body: errorDocument("PermanentRedirect"),
      },
      "the bucket is in the region eu-west-1: give region=eu-west-1",
    ],
    [
      "a key for another region",
      {
        status: 400,
        body: errorDocument("AuthorizationHeaderMalformed", "<Region>eu-west-2</Region>"),
      },
      "give region=eu-west-2",
    ],
    [
      "a token that has ended",
      { status: 400, body: errorDocument("ExpiredToken") },
      "the session token has expired: get new keys",
    ],
    [
      "keys that are not allowed",
      { status: 403, body: errorDocument("AccessDenied") },
      "the store does not allow it with these keys",
    ],
    [
      "something new",
      { status: 418, body: errorDocument("Teapot", "<Message>Tea &amp; milk</Message>") },
      "Teapot: Tea & milk",
    ],
    ["no S3 at all", { status: 200, body: "hello" }, "did not send the requested range"],
  ])("%s", async (_, fate, words) => {
    expect(await refusal(await answers(fate), `bucket=${BUCKET}`, "key=x")).toContain(words);
  });

  test.each([
    [20 * 60, "20 minutes behind"],
    [-3 * 60 * 60, "180 minutes ahead"],
  ])("a clock that is %i s ahead of this machine's", async (seconds, words) => {
    const date = new Date(Date.now() + seconds * 1000 + 500).toUTCString();
    const url = await answers({
      status: 403,
      headers: { date },
      body: errorDocument("RequestTimeTooSkewed"),
    });
    const said = await refusal(url, `bucket=${BUCKET}`, "key=x");
    expect(said).toContain(`this machine's clock is ${words}: set it`);
  });

  test("one whose lists always begin from the start", async () => {
    const volume = newVolume();
    const key = volume[1]?.slice("key=".length);
    const first = `<Contents><Key>${key}/0000000000000000</Key><Size>${OBJECT}</Size></Contents>`;
    const body = `<ListBucketResult><IsTruncated>true</IsTruncated>${first}</ListBucketResult>`;
    const words = await refusal(
      await answers({ status: 200, body }),
      ...volume,
      "single-writer=true",
    );
    expect(words).toContain("the store does not list names in order");
  });

  test("a bucket in the host's name, or in the path", async () => {
    const stub = await startProxy();
    const asked: string[] = [];
    stub.fate = ({ headers, url }) => {
      asked.push(`${headers.host} ${url}`);
      return { status: 403, body: errorDocument("AccessDenied") };
    };
    const { port } = new URL(stub.url);
    const endpoint = `http://localhost:${port}/`;
    await refusal(endpoint, `bucket=${BUCKET}`, "key=a b");
    await refusal(endpoint, `bucket=${BUCKET}`, "key=a b", "path-style=false");
    expect(asked).toEqual([
      `localhost:${port} /${BUCKET}/a%20b`,
      `${BUCKET}.localhost:${port} /a%20b`,
    ]);
  });

  test("requests for encryption by the store are sent and signed", async () => {
    const stub = await startProxy(s3.ceph.s3Port);
    const puts: IncomingMessage[] = [];
    stub.fate = (request) => {
      if (request.method === "PUT") puts.push(request);
      return "pass";
    };
    const encryption = ["sse=aws:kms", "sse-kms-key-id=the-key"];
    await refusal(stub.url, ...newVolume(), ...encryption); // radosgw has no such keys here
    const headers = puts[0]?.headers ?? {};
    expect(headers["x-amz-server-side-encryption"]).toBe("aws:kms");
    expect(headers["x-amz-server-side-encryption-aws-kms-key-id"]).toBe("the-key");
    expect(headers.authorization).toContain("x-amz-server-side-encryption-aws-kms-key-id");
  });

  test("missing rights to write are reported at the start", async () => {
    const proxy = await startProxy(s3.ceph.s3Port);
    proxy.fate = ({ method }) =>
      method === "PUT" ? { status: 403, body: errorDocument("AccessDenied") } : "pass";
    const volume = newVolume();
    expect(await refusal(proxy.url, ...volume)).toContain("(read-only=true only reads it)");
    await s3.store.put(BUCKET, `volume${volumes}/0000000000000000`, randomBytes(OBJECT));
    const client = await connect(await serve(proxy.url, ...volume, "read-only=true"));
    expect(client.flags & EXPORT_FLAG.READ_ONLY).toBe(EXPORT_FLAG.READ_ONLY);
  });
});

test.each([
  ["disks/vm1", "use bucket=disks key=vm1"],
  ["s3://disks/dir/vm1", "use bucket=disks key=dir/vm1"],
  ["vm1", "use bucket=BUCKET key=KEY"],
])("%s names no object: bucket= and key= do", async (word, words) => {
  expect(await refusalOf(["s3", word])).toContain(`"${word}": ${words}`);
});

test("trimming keeps what another server has changed", async () => {
  const volume = newVolume();
  const url = s3.url;
  const [one, other] = [await serve(url, ...volume), await serve(url, ...volume)];
  const [a, b] = [await connect(one), await connect(other)];
  const [first, second] = [randomBytes(512), randomBytes(512)];
  expect((await a.request({ type: CMD.WRITE, offset: 0n, payload: first })).error).toBe(0);
  expect((await b.request({ type: CMD.WRITE, offset: 512n, payload: second })).error).toBe(0);
  expect((await a.request({ type: CMD.TRIM, offset: 0n, length: OBJECT })).error).toBe(ERRNO.EPERM);
  const told = () => one.stderr().includes("another writer has changed") || undefined;
  await eventually("words about it", told);
  expect((await b.read(512n, 512)).data.equals(second)).toBe(true);
});
