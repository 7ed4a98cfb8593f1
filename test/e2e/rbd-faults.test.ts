// The shipped rbd plugin with a Ceph cluster that fails: its OSD is killed and started again, stopped,
// or gone for good, under load that is verified.

import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { startCeph } from "../support/ceph.js";
import { DiskModel, SECTOR_BYTES } from "../support/disk-model.js";
import { MIB } from "../support/fixtures.js";
import { CMD, ERRNO, FLAG } from "../support/protocol.js";
import { randomOf } from "../support/random.js";
import {
  eventually,
  LEAKS_AT_EXIT,
  type RunningServer,
  sanitizer,
  startServer,
} from "../support/server.js";
import { StrictClient, type StrictRequest } from "../support/strict-client.js";

const ceph = startCeph({ store: "bluestore" });

const GRACE_MS = 2_000;

let images = 0;

/** A new image. */
async function serve(...parameters: readonly string[]): Promise<RunningServer> {
  const name = `disk${++images}`;
  await ceph.run("rbd", "create", "--size=8M", `rbd/${name}`);
  return startServer(["rbd", name, `conf=${ceph.conf}`, ...parameters], {
    options: [`--grace=${GRACE_MS / 1000}`],
    env: LEAKS_AT_EXIT,
  });
}

const connect = (server: RunningServer): Promise<StrictClient> =>
  StrictClient.connect(server.socket, { style: "structured", contexts: ["base:allocation"] });

/** As users have them: 60 s. */
const OUTAGE_MS = 1000 * Number(process.env.ASYNCNBD_TEST_OUTAGE_SECONDS ?? 5);
const OUTAGE_SECONDS = OUTAGE_MS / 1000;
const TIMES = { timeout: 60_000 + 6 * OUTAGE_MS };

const CLIENTS = 3;
const REGION_SECTORS = (2 * MIB) / SECTOR_BYTES; // of each client
const IN_FLIGHT = 16;

/** Writes and reads at a depth of 16 in a region of its own, until told to end. */
class Load {
  readonly model = new DiskModel(REGION_SECTORS * SECTOR_BYTES);
  successes = 0;
  readonly errors: number[] = [];
  readonly #client: StrictClient;
  readonly #index: number;

  constructor(client: StrictClient, index: number) {
    this.#client = client;
    this.#index = index;
  }

  at(sector: number): bigint {
    return BigInt((this.#index * REGION_SECTORS + sector) * SECTOR_BYTES);
  }

  async run(isOver: () => boolean): Promise<void> {
    const random = randomOf(this.#index + 1);
    const slice = REGION_SECTORS / IN_FLIGHT;
    while (!isOver()) {
      const written = Array.from({ length: IN_FLIGHT }, (_, i) => {
        const length = 1 + random(16);
        return { offset: i * slice + random(slice - length), length, byte: random(256) };
      });
      const replies = await this.#client.requests(
        ...written.map(({ offset, length, byte }) => ({
          type: CMD.WRITE,
          offset: this.at(offset),
          payload: Buffer.alloc(length * SECTOR_BYTES, byte),
          flags: random(8) === 0 ? FLAG.FUA : 0,
        })),
      );
      this.successes += replies.filter(({ error }) => error === 0).length;
      for (const [i, { offset, length, byte }] of written.entries()) {
        if (replies[i]?.error === 0) this.model.wrote(offset, length, byte);
        else this.model.mayHaveWritten(offset, length, byte);
      }
      this.errors.push(...replies.map(({ error }) => error).filter((error) => error !== 0));
      const sector = random(REGION_SECTORS - 64);
      const { error, data } = await this.#client.read(this.at(sector), 64 * SECTOR_BYTES);
      if (error !== 0) this.errors.push(error);
      else this.model.checkRead(sector, data);
    }
  }
}

/** Loads run before, meanwhile, and until they have got on after it. */
async function loadAround(server: RunningServer, outage: () => Promise<void>): Promise<Load[]> {
  const clients = await Promise.all(Array.from({ length: CLIENTS }, () => connect(server)));
  for (const { raw } of clients) raw.patienceMs += OUTAGE_MS;
  const loads = clients.map((client, i) => new Load(client, i));
  let isOver = false;
  const running = Promise.all(loads.map((load) => load.run(() => isOver)));
  // An OSD that goes on after a minute's silence has kept some requests back for two more.
  const getOn = async (): Promise<void> => {
    const before = loads.map(({ successes }) => successes);
    while (loads.some(({ successes }, i) => successes < (before[i] as number) + 4 * IN_FLIGHT))
      await sleep(100);
  };
  await getOn();
  await outage();
  await getOn();
  isOver = true;
  await running;
  return loads;
}

/** And so does another server. */
async function expectToReadTheSame(image: string, loads: readonly Load[]): Promise<void> {
  const again = await startServer(["rbd", image, `conf=${ceph.conf}`]);
  const reader = await connect(again);
  for (const load of loads) {
    const { data } = await reader.read(load.at(0), REGION_SECTORS * SECTOR_BYTES);
    load.model.checkRead(0, data);
  }
  await again.stop();
}

async function whileStopped(
  daemons: readonly string[],
  work: () => Promise<unknown>,
): Promise<void> {
  for (const daemon of daemons) await ceph.stop(daemon);
  try {
    await work();
  } finally {
    for (const daemon of daemons) ceph.signal(daemon, "SIGCONT");
  }
}

test.each<[outage: string, cache: string, act: () => Promise<void>]>([
  [
    "is killed and comes back after",
    "true",
    async () => {
      ceph.signal("osd.0", "SIGKILL");
      await sleep(OUTAGE_MS);
      await ceph.run("ceph-osd", "-i", "0");
    },
  ],
  ["is silent for", "true", () => whileStopped(["osd.0"], () => sleep(OUTAGE_MS))],
  ["is silent for", "false", () => whileStopped(["osd.0"], () => sleep(OUTAGE_MS))],
])(
  `an OSD that %s ${OUTAGE_SECONDS} s costs no request and no data, with cache=%s`,
  TIMES,
  async (_, cache, outage) => {
    const server = await serve(`cache=${cache}`, `timeout=${OUTAGE_SECONDS + 60}`);
    const loads = await loadAround(server, outage);
    expect(loads.map(({ errors }) => errors)).toEqual(loads.map(() => []));
    await server.stop();
    await expectToReadTheSame(`disk${images}`, loads);
  },
);

test("an OSD's silence fails only what is not answered within timeout=", TIMES, async () => {
  const server = await serve("cache=false", `timeout=${Math.ceil(OUTAGE_SECONDS / 3)}`);
  const loads = await loadAround(server, () => whileStopped(["osd.0"], () => sleep(OUTAGE_MS)));
  for (const { errors } of loads) {
    expect(errors.length).toBeGreaterThan(0);
    expect(new Set(errors)).toEqual(new Set([ERRNO.EIO]));
  }
  expect(server.stderr()).toMatch(/the cluster has not answered \d+ requests? within timeout=/);
  await server.stop();
  await expectToReadTheSame(`disk${images}`, loads);
});

test("requests to an OSD that is silent for longer than timeout= fail", async () => {
  const client = await connect(await serve("timeout=2", "cache=false"));
  const write = { type: CMD.WRITE, payload: randomBytes(16_384) };
  expect((await client.request(write)).error).toBe(0);
  await whileStopped(["osd.0"], async () => {
    const begin = Date.now();
    const range = { offset: 8192n, length: 4096 };
    const replies = await client.requests(
      { type: CMD.WRITE, payload: randomBytes(4096) },
      { type: CMD.READ, ...range },
      { type: CMD.WRITE_ZEROES, ...range },
      { type: CMD.BLOCK_STATUS, ...range },
    );
    expect(replies.map(({ error }) => error)).toEqual(replies.map(() => ERRNO.EIO));
    expect(Date.now() - begin).toBeGreaterThan(1900);
    expect(Date.now() - begin).toBeLessThan(10_000);
  });
  // Until then, the one that was not answered is in the way.
  await eventually("a write", async () => (await client.request(write)).error === 0 || undefined);
  expect((await client.read(0n, 16_384)).data.equals(write.payload)).toBe(true);
});

test("while an OSD is silent clients are refused after timeout=, and nothing passes an overdue write", async () => {
  const server = await serve("timeout=1", "cache=false");
  await whileStopped(["osd.0"], async () => {
    await expect(connect(server)).rejects.toThrow();
    expect(server.stderr()).toContain("the cluster has not answered within timeout=1");
  });
  const client = await eventually("a client", () => connect(server).catch(() => undefined));
  const [before, after] = [randomBytes(4096), randomBytes(4096)];
  const write = (payload: Buffer) => client.request({ type: CMD.WRITE, payload });
  expect((await write(before)).error).toBe(0);
  await whileStopped(["osd.0"], async () => {
    expect((await write(after)).error).toBe(ERRNO.EIO);
    expect((await write(before)).error).toBe(ERRNO.EIO);
    expect((await client.read(0n, 512)).error).toBe(ERRNO.EIO);
    expect(server.stderr()).toContain("an earlier write to the same range is overdue");
  });
  // The first of the two was carried out after all; the second never was begun.
  const data = await eventually("a read", async () => {
    const reply = await client.read(0n, 4096);
    return reply.error === 0 ? reply.data : undefined;
  });
  expect(data.equals(after)).toBe(true);
  expect((await write(before)).error).toBe(0);
  expect((await client.read(0n, 4096)).data.equals(before)).toBe(true);
});

test("an overdue trim of a large range holds no memory, and stops no requests elsewhere", async () => {
  const server = await serve("timeout=1", "cache=false");
  await ceph.run("rbd", "resize", "--no-progress", "--size=4G", `rbd/disk${images}`);
  const client = await connect(server);
  const write = { type: CMD.WRITE, offset: 2n << 30n, payload: randomBytes(4096) };
  await whileStopped(["osd.0"], async () => {
    expect((await client.request({ type: CMD.TRIM, length: 1 << 30 })).error).toBe(ERRNO.EIO);
    const begin = Date.now();
    expect((await client.request(write)).error).toBe(ERRNO.EIO);
    expect(Date.now() - begin).toBeGreaterThan(900); // librbd has it
    expect(server.stderr()).not.toContain("fails at once");
  });
  await eventually("a write", async () => (await client.request(write)).error === 0 || undefined);
});

/** Six servers end at once, where two processors do all that they and the cluster do. */
const EXIT_SLACK_MS = 3_000;

const idle = (): void => {};
const asks =
  (request: StrictRequest) =>
  (client: StrictClient): void =>
    void client.request(request).catch(idle);

// With AddressSanitizer the watchdog waits ten times as long.
const testEnd = test.skipIf(sanitizer === "address");

testEnd.each([
  ["OSD", ["osd.0"]],
  ["OSD and monitor", ["osd.0", "mon.a"]],
] as const)(
  "with a dead %s every server ends in its grace, whatever it waits for",
  async (_, dead) => {
    const cases: [parameters: string[], act: (client: StrictClient) => void][] = [
      [[], idle],
      [["exclusive=true"], idle],
      [[], asks({ type: CMD.WRITE, payload: randomBytes(512) })],
      [[], asks({ type: CMD.BLOCK_STATUS, length: MIB })],
      [[], (client) => client.raw.socket.destroy()],
      [["timeout=1"], asks({ type: CMD.WRITE, payload: randomBytes(512) })],
    ];
    const started: [RunningServer, StrictClient, (client: StrictClient) => void][] = [];
    for (const [parameters, act] of cases) {
      const server = await serve(...parameters);
      const client = await connect(server);
      expect((await client.request({ type: CMD.WRITE, payload: randomBytes(512) })).error).toBe(0);
      started.push([server, client, act]);
    }
    await whileStopped(dead, async () => {
      for (const [, client, act] of started) act(client);
      await sleep(200);
      const begunMs = performance.now();
      for (const [server] of started) server.kill("SIGTERM");
      const ends = started.map(async ([server]) => {
        const { status, stderr } = await server.ended;
        expect([1, 143], stderr).toContain(status);
        expect(stderr).toMatch(
          /error: rbd: .* did not return within .* s: (giving up|forcing the exit)/,
        );
        return performance.now() - begunMs;
      });
      for (const tookMs of await Promise.all(ends))
        expect(tookMs).toBeLessThan(GRACE_MS + EXIT_SLACK_MS);
    });
  },
);

test("a server answers some block status requests at once, even while others write", async () => {
  const server = await serve();
  const clients = await Promise.all(Array.from({ length: 6 }, () => connect(server)));
  const payload = randomBytes(64 << 10);
  for (let at = 0; at < 8; at++)
    await clients[0]?.request({ type: CMD.WRITE, offset: BigInt(at * MIB), payload });
  const replies = await Promise.all(
    clients.map((client, i) =>
      client.requests(
        ...Array.from({ length: 20 }, () => ({ type: CMD.BLOCK_STATUS, length: 8 * MIB })),
        { type: CMD.WRITE, offset: BigInt(i * MIB), payload },
      ),
    ),
  );
  expect(replies.flat().filter(({ error }) => error !== 0)).toEqual([]);
});
