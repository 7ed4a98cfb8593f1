// Trims and zeroes of many objects of the s3 plugin: what they cost, and whose data they spare. The
// store is Ceph's radosgw, behind a proxy that counts, and answers for what that has not.

import { randomBytes } from "node:crypto";
import { describe, expect, test } from "vitest";
import { CMD, ERRNO } from "../support/protocol.js";
import { errorDocument, type Fate, type StoreProxy, startProxy } from "../support/s3-proxy.js";
import { BUCKET, S3_ENVIRONMENT, startS3 } from "../support/s3-server.js";
import { eventually, type RunningServer, startServer } from "../support/server.js";
import { StrictClient } from "../support/strict-client.js";

const s3 = startS3();
const OBJECT = 4096;

let volumes = 0;
const newKey = (): string => `removed & <${++volumes}>`;

function serve(
  proxy: StoreProxy,
  key: string,
  objects: number,
  ...more: readonly string[]
): Promise<RunningServer> {
  const place = [`endpoint-url=${proxy.url}`, `bucket=${BUCKET}`, `key=${key}`];
  const size = [`size=${objects * OBJECT}`, `object-size=${OBJECT}`];
  return startServer(["s3", ...place, ...size, "retry-delay=20ms", ...more], {
    env: S3_ENVIRONMENT,
  });
}

const connect = (server: RunningServer): Promise<StrictClient> =>
  StrictClient.connect(server.socket, { style: "structured" });

/** A volume that is full of data that its server has written. */
async function startFull(
  objects: number,
  beforeStart: (proxy: StoreProxy) => void = () => {},
  ...more: readonly string[]
) {
  const proxy = await startProxy(s3.ceph.s3Port);
  beforeStart(proxy);
  const key = newKey();
  const server = await serve(proxy, key, objects, ...more);
  const client = await connect(server);
  const payload = randomBytes(objects * OBJECT);
  expect((await client.request({ type: CMD.WRITE, payload })).error).toBe(0);
  proxy.seen.length = 0;
  const trim = async (first = 0, end = objects): Promise<number> => {
    const range = { offset: BigInt(first * OBJECT), length: (end - first) * OBJECT };
    return (await client.request({ type: CMD.TRIM, ...range })).error;
  };
  const write = async (): Promise<void> => {
    expect((await client.request({ type: CMD.WRITE, payload })).error).toBe(0);
    proxy.seen.length = 0;
  };
  return { proxy, server, client, key, payload, trim, write };
}

const sent = ({ seen }: StoreProxy, method: string): number =>
  seen.filter((words) => words.startsWith(`${method} `)).length;

const isRemoval = ({ url }: { url?: string | undefined }): boolean =>
  url?.endsWith("?delete=") === true;

describe("many objects are removed", () => {
  test("a hundred with each request, without a look at each", async () => {
    const { proxy, key, client, trim } = await startFull(2500);
    expect(await trim()).toBe(0);
    expect(sent(proxy, "POST")).toBeLessThan(35);
    expect(sent(proxy, "DELETE") + sent(proxy, "HEAD")).toBeLessThan(10);
    expect(await s3.store.list(BUCKET, key)).toEqual([]);
    expect((await client.read(0n, 8 * OBJECT)).data.equals(Buffer.alloc(8 * OBJECT))).toBe(true);
  }, 60_000);

  test("one by one if the store refuses that request, which is not made again", async () => {
    const { proxy, key, trim, write } = await startFull(16);
    const refused: Fate = { status: 501, body: errorDocument("NotImplemented") };
    proxy.fate = (request) => (isRemoval(request) ? refused : "pass");
    expect(await trim()).toBe(0);
    expect(sent(proxy, "DELETE")).toBe(16);
    expect(await s3.store.list(BUCKET, key)).toEqual([]);
    await write();
    expect(await trim()).toBe(0);
    expect(sent(proxy, "POST")).toBe(0);
  });

  test("one by one if a store that was not asked at the start fails at that request", async () => {
    const { proxy, key, trim } = await startFull(16, undefined, "single-writer=true");
    proxy.fate = (request) =>
      isRemoval(request) ? { status: 500, body: errorDocument("InternalError") } : "pass";
    expect(await trim()).toBe(0);
    expect(sent(proxy, "DELETE")).toBe(16);
    expect(await s3.store.list(BUCKET, key)).toEqual([]);
  });

  test("one by one if the store does not know that request at the start", async () => {
    const { proxy, key, trim } = await startFull(16, (store) => {
      store.fate = (request) =>
        isRemoval(request) ? { status: 500, body: errorDocument("InternalError") } : "pass";
    });
    expect(await trim()).toBe(0);
    expect(sent(proxy, "POST")).toBe(0);
    expect(await s3.store.list(BUCKET, key)).toEqual([]);
  });

  test.each<[string, string]>([
    ["refuses some of them for now", "SlowDown"],
    ["does not tell what has become of them", ""],
  ])("one by one if the store %s", async (_, code) => {
    const { proxy, key, trim } = await startFull(16);
    proxy.fate = (request, body) => {
      if (!isRemoval(request)) return "pass";
      const names = [...body.toString().matchAll(/<Key>[^<]*<\/Key>/g)];
      const errors = names.map(([name]) => `<Error>${name}<Code>${code}</Code></Error>`);
      return { status: 200, body: `<DeleteResult>${code && errors.join("")}</DeleteResult>` };
    };
    expect(await trim()).toBe(0);
    expect(sent(proxy, "DELETE")).toBe(16);
    expect(await s3.store.list(BUCKET, key)).toEqual([]);
  });

  test("or not, after the deadline, if the store is away", async () => {
    const { proxy, server, trim } = await startFull(16, undefined, "deadline=1s");
    proxy.fate = (request) => (isRemoval(request) ? "lose the request" : "pass");
    expect(await trim()).toBe(ERRNO.EIO);
    expect(server.stderr()).toContain("cannot remove 16 objects of removed");
    proxy.fate = () => "pass";
    expect(await trim()).toBe(0);
  });
});

describe("another writer's data", () => {
  const spares = async (
    beforeStart?: (proxy: StoreProxy) => void,
  ): Promise<Awaited<ReturnType<typeof startFull>>> => {
    const full = await startFull(16, beforeStart);
    const direct = await startProxy(s3.ceph.s3Port);
    const other = await connect(await serve(direct, full.key, 16));
    const theirs = randomBytes(512);
    const write = { type: CMD.WRITE, offset: BigInt(5 * OBJECT), payload: theirs };
    expect((await other.request(write)).error).toBe(0);
    expect(await full.trim()).toBe(ERRNO.EPERM);
    const told = () => full.server.stderr().includes("another writer has changed") || undefined;
    await eventually("words about it", told);
    expect((await other.read(BigInt(5 * OBJECT), 512)).data.equals(theirs)).toBe(true);
    return full;
  };

  test("is spared without conditions, by a look at the store's list", async () => {
    const { key } = await spares();
    expect(await s3.store.list(BUCKET, key)).toHaveLength(1);
  });

  test("is spared by a condition for each object, if the store honours it", async () => {
    const documents: string[] = [];
    const etags = new Map<string, string>();
    /** A store that honours conditions of deletes: what passes is what radosgw may remove. */
    const honour = (store: StoreProxy) => {
      store.fate = ({ method, headers, url = "" }, body) => {
        const condition = headers["if-match"];
        if (method === "DELETE" && condition !== undefined)
          return { status: 412, body: errorDocument("PreconditionFailed") };
        if (!isRemoval({ url })) return "pass";
        documents.push(body.toString());
        const wrong = [...body.toString().matchAll(/(<Key>[^<]*<\/Key>)<ETag>([^<]*)<\/ETag>/g)]
          .filter(([, name = "", etag = ""]) => {
            if (!etags.has(name) && !etag.includes("00000000")) etags.set(name, etag);
            return etags.get(name) !== etag || name.includes("0000000005<");
          })
          .map(([, name]) => `<Error>${name}<Code>PreconditionFailed</Code></Error>`);
        if (wrong.length === 0) return "pass";
        const rest = [...body.toString().matchAll(/<Key>[^<]*<\/Key>/g)]
          .filter(([name]) => !wrong.some((words) => words.includes(name)))
          .map(([name]) => `<Deleted>${name}</Deleted>`);
        return {
          status: 200,
          body: `<DeleteResult>${wrong.join("")}${rest.join("")}</DeleteResult>`,
        };
      };
    };
    await spares(honour);
    const last = documents.at(-1) ?? "";
    expect(last.match(/<ETag>/g)).toHaveLength(16);
  });
});
