// The s3 plugin under verified load, while its store fails now and then: a real S3 server (Ceph's
// radosgw) that is killed or stopped, or behind a proxy that loses, delays and refuses.

import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { beforeAll, describe, expect, test } from "vitest";
import { randomLoad, verifyByFio } from "../support/fio.js";
import { MIB } from "../support/fixtures.js";
import { errorDocument, type Fate, type StoreProxy, startProxy } from "../support/s3-proxy.js";
import { BUCKET, S3_ENVIRONMENT, startS3 } from "../support/s3-server.js";
import { readScattered } from "../support/scattered-reads.js";
import { type RunningServer, startServer } from "../support/server.js";

const s3 = startS3();

// Which takes a store longer than all others.
beforeAll(() => s3.store.put(BUCKET, "first", randomBytes(1)));

let volumes = 0;
const newVolume = (): string[] => [`key=volume${++volumes}`, "size=2M", "object-size=64K"];

const serve = (url: string, ...parameters: readonly string[]): Promise<RunningServer> =>
  startServer(
    ["s3", `endpoint-url=${url}`, `bucket=${BUCKET}`, "retry-delay=20ms", ...parameters],
    { env: S3_ENVIRONMENT, options: ["--grace=2"] },
  );

/** That fate for each request of the method whose number has the remainder 1; how many had it. */
function everyNth(proxy: StoreProxy, n: number, method: RegExp, fate: Fate): () => number {
  let count = 0;
  proxy.fate = (request) =>
    method.test(request.method ?? "") && ++count % n === 1 ? fate : "pass";
  return () => Math.ceil(count / n);
}

const PASSING_FATES: [string, RegExp, Fate][] = [
  ["answers with 500", /./, { status: 500, body: errorDocument("InternalError") }],
  ["asks for a slower pace", /./, { status: 503, body: errorDocument("SlowDown") }],
  [
    "asks for a second's pause",
    /./,
    { status: 503, headers: { "retry-after": "1" }, body: errorDocument("SlowDown") },
  ],
  ["has had too many requests", /./, { status: 429, body: errorDocument("TooManyRequests") }],
  ["is slow", /./, { delayMs: 300 }],
  ["is silent", /./, "be silent"],
  ["cuts bodies", /GET/, "cut the answer"],
  ["loses requests", /./, "lose the request"],
];

describe("a volume whose store", () => {
  test.each<[string, RegExp, Fate]>([
    ...PASSING_FATES,
    ["loses the answers of writes", /PUT|DELETE/, "lose the answer"],
    [
      "says that a condition is being looked at",
      /PUT/,
      { status: 409, body: errorDocument("ConditionalRequestConflict") },
    ],
  ])(
    "%s loses no data",
    async (_, method, fate) => {
      const proxy = await startProxy(s3.ceph.s3Port);
      const server = await serve(proxy.url, ...newVolume(), "timeout=500ms");
      const failed = everyNth(proxy, fate === "be silent" ? 20 : 5, method, fate);
      await verifyByFio(server, randomLoad(32, "2m", "2m"));
      expect(failed()).toBeGreaterThan(5);
      expect(server.stderr()).not.toContain("another writer");
    },
    60_000,
  );

  test("is killed and comes back loses no data", async () => {
    const server = await serve(s3.url, ...newVolume());
    const load = verifyByFio(server, [...randomLoad(32, "2m", "4m"), "--rate_iops=400"]);
    await sleep(500);
    s3.ceph.signal("client.s3", "SIGKILL");
    await sleep(2000);
    await s3.ceph.run("radosgw", "-n", "client.s3");
    await load;
    expect(server.stderr()).not.toContain("another writer");
  }, 60_000);

  test("hangs for a while loses no data", async () => {
    const server = await serve(s3.url, ...newVolume(), "timeout=500ms");
    const load = verifyByFio(server, [...randomLoad(32, "2m", "4m"), "--rate_iops=400"]);
    await sleep(500);
    s3.ceph.signal("client.s3", "SIGSTOP");
    await sleep(2000);
    s3.ceph.signal("client.s3", "SIGCONT");
    await load;
    expect(server.stderr()).not.toContain("another writer");
  }, 60_000);
});

describe("an object whose store", () => {
  test.each(PASSING_FATES)(
    "%s is read right",
    async (_, method, fate) => {
      const content = randomBytes(MIB);
      await s3.store.put(BUCKET, "object", content);
      const proxy = await startProxy(s3.ceph.s3Port);
      const server = await serve(proxy.url, "key=object", "timeout=500ms");
      const failed = everyNth(proxy, 20, method, fate);
      await readScattered(server, content);
      expect(failed()).toBeGreaterThan(10);
    },
    60_000,
  );
});
