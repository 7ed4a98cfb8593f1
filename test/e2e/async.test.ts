// The asynchronous thread model: right replies, wrong ones, none; each defect of the patch that
// began it is a case here.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { CMD, ERRNO, FLAG } from "../support/protocol.js";
import { encodeRequest, RawClient } from "../support/raw-client.js";
import {
  eventually,
  type RunningServer,
  runAsyncnbd,
  sanitizer,
  startServer,
  temporaryDirectory,
  testPlugin,
} from "../support/server.js";

const { READ, WRITE, DISC, FLUSH, TRIM, CACHE, WRITE_ZEROES } = CMD;
const { FUA } = FLAG;
const { EIO, ENOMEM, EINVAL, ENOSPC, ESHUTDOWN } = ERRNO;

/** What the plugin does with a request, by its offset: see test/plugins/asyncprobe.c. */
const ways = {
  inline: 0n,
  later: 1n,
  ownMemory: 2n,
  lent: 3n,
  twice: 4n,
  wrongCount: 5n,
  wrongKind: 6n,
  fails: 7n,
  replyError: 8n,
  replyErrno: 9n,
  never: 10n,
  replyGlobal: 11n,
  both: 12n,
  noMemory: 13n,
  madeUp: 14n,
  noErrno: 15n,
} as const;
type Way = keyof typeof ways;

const REGION_BYTES = 65536n;
const at = (way: Way): bigint => ways[way] * REGION_BYTES;

interface Probe {
  readonly server: RunningServer;
  readonly client: RawClient;
  log(): string;
}

async function startProbe(
  parameters: readonly string[] = [],
  options: readonly string[] = [],
  plugin = "asyncprobe",
): Promise<Probe> {
  const log = join(temporaryDirectory(), "log");
  const server = await startServer([testPlugin(plugin), `log=${log}`, ...parameters], { options });
  const client = await RawClient.connect(server.socket);
  await client.go();
  return { server, client, log: () => readFileSync(log, "utf8") };
}

/** Waits until the plugin has logged something. */
const logged = (isThere: () => boolean): Promise<true> =>
  eventually("the plugin's log", async () => isThere() || undefined);

const bytes = (value: number, length: number): Buffer => Buffer.alloc(length, value);

/** Reads; the data, or the NBD error. */
async function read(client: RawClient, offset: bigint, length: number): Promise<Buffer | number> {
  const error = await client.request({ type: READ, offset, length });
  return error === 0 ? client.read(length) : error;
}

async function write(client: RawClient, offset: bigint, data: Buffer, flags = 0): Promise<number> {
  return client.request({ type: WRITE, offset, length: data.length, payload: data, flags });
}

describe("an asynchronous plugin", () => {
  test("is announced by --dump-plugin, with the callbacks it has", async () => {
    const { stdout } = await runAsyncnbd([testPlugin("asyncprobe"), "--dump-plugin"]);
    expect(stdout).toContain("max_thread_model=async\n");
    expect(stdout).toContain("thread_model=async\n");
    for (const callback of ["pread", "pwrite", "flush", "trim", "zero", "cache", "extents"])
      expect(stdout).toContain(`has_async_${callback}=1\n`);
    expect(stdout).toContain("struct_size=384\n"); // nbdkit sees no more than its own fields
  });

  test.each(["inline", "later", "ownMemory", "lent"] as const)(
    "may reply %s, small requests and large",
    async (way) => {
      const { client } = await startProbe(["size=2M"]);
      for (const length of [1, 512, 4096, 65536]) {
        const data = bytes(length & 0xff || 7, length);
        expect(await write(client, at(way), data)).toBe(0);
        expect(await read(client, at(way), length)).toEqual(data);
      }
    },
  );

  test("keeps thousands of requests in flight, and each gets its own data", async () => {
    const { client, server, log } = await startProbe(["delay-ms=50"]);
    const base = Number(at("later"));
    for (let i = 0; i < 16; i++)
      expect(await write(client, BigInt(base + i * 4096), bytes(i + 1, 4096))).toBe(0);
    const count = 4096;
    client.send(
      ...Array.from({ length: count }, (_, i) =>
        encodeRequest({
          type: READ,
          offset: BigInt(base + (i % 16) * 4096),
          length: 512,
          cookie: BigInt(i),
        }),
      ),
    );
    const seen = new Set<bigint>();
    for (let i = 0; i < count; i++) {
      const { error, cookie } = await client.readReply();
      expect(error).toBe(0);
      expect(await client.read(512)).toEqual(bytes((Number(cookie) % 16) + 1, 512));
      seen.add(cookie);
    }
    expect(seen.size).toBe(count);
    await client.leave();
    await server.stop();
    expect(Number(/most unanswered: (\d+)/.exec(log())?.[1])).toBeGreaterThan(count / 2);
  });

  test("gets its lent memory back once for each reply", async () => {
    const { client, server, log } = await startProbe();
    for (let i = 0; i < 5; i++) await read(client, at("lent"), 32768);
    await server.stop();
    expect(log().match(/released/g)).toHaveLength(5);
  });
});

describe("a wrong reply", () => {
  test("that comes second is refused and does no harm", async () => {
    const { client, server, log } = await startProbe();
    expect(await write(client, at("twice"), bytes(5, 4096))).toBe(0);
    expect(await read(client, at("twice"), 4096)).toEqual(bytes(5, 4096));
    expect(await read(client, at("inline"), 512)).toEqual(bytes(0, 512));
    await logged(() => log().match(/again: -1 EINVAL/g)?.length === 2);
    expect(server.stderr()).toContain("replied twice?");
  });

  test.each(["wrongCount", "wrongKind", "noMemory"] as const)(
    "%s becomes an error, and the stream goes on",
    async (way) => {
      const { client, server, log } = await startProbe();
      expect(await read(client, at(way), 4096)).toBe(EIO);
      expect(await read(client, at("inline"), 512)).toEqual(bytes(0, 512));
      await logged(() => log().includes(`pread in ${ways[way]}: -1 EINVAL`));
      expect(server.stderr()).toMatch(/pread|NBD_CMD_READ|read/);
      expect(server.stderr()).toContain("the client gets an error");
    },
  );

  test("data in reply to a write becomes an error", async () => {
    const { client } = await startProbe();
    expect(await write(client, at("wrongKind"), bytes(1, 512))).toBe(EIO);
    expect(await write(client, at("inline"), bytes(1, 512))).toBe(0);
  });

  test("ids that were never given out are refused", async () => {
    const { client, log } = await startProbe();
    expect(await read(client, at("madeUp"), 512)).toEqual(bytes(0, 512));
    expect(log()).toContain("accepted 0 made up");
  });

  test("-1 after a reply changes nothing", async () => {
    const { client } = await startProbe();
    expect(await read(client, at("both"), 512)).toEqual(bytes(0, 512));
    expect(await read(client, at("both"), 512)).toEqual(bytes(0, 512));
  });
});

describe("a failing request", () => {
  test.each([
    ["fails", ENOSPC],
    ["noErrno", EINVAL],
    ["replyError", ENOMEM],
    ["replyErrno", ENOSPC],
    ["replyGlobal", ENOSPC],
  ] as const)("%s gives the client its error", async (way, error) => {
    const { client } = await startProbe();
    expect(await read(client, at(way), 512)).toBe(error);
    expect(await write(client, at(way), bytes(1, 512))).toBe(error);
    expect(await read(client, at("inline"), 512)).toEqual(bytes(0, 512));
  });
});

describe("durability", () => {
  test("FUA reaches the plugin, if it is native", async () => {
    const { client, log } = await startProbe();
    expect(await write(client, at("later"), bytes(1, 512), FUA)).toBe(0);
    expect(await client.request({ type: TRIM, offset: at("later"), length: 512, flags: FUA })).toBe(
      0,
    );
    expect(log()).toContain("async pwrite count=512 fua=1\n");
    expect(log()).toContain("async trim count=512 fua=1\n");
    expect(log()).not.toContain("async flush");
  });

  test("FUA is a flush after the reply, if it is emulated", async () => {
    const { client, log } = await startProbe(["fua=emulate"]);
    expect(await write(client, at("later"), bytes(1, 512), FUA)).toBe(0);
    const lines = log().split("\n");
    expect(lines).toContain("async pwrite count=512 fua=0");
    expect(lines.indexOf("async flush")).toBeGreaterThan(
      lines.indexOf("async pwrite count=512 fua=0"),
    );
    expect(await client.request({ type: FLUSH })).toBe(0);
  });

  test("a failed write is not flushed", async () => {
    const { client, log } = await startProbe(["fua=emulate"]);
    expect(await write(client, at("replyErrno"), bytes(1, 512), FUA)).toBe(ENOSPC);
    expect(log()).not.toContain("async flush");
  });
});

describe("what a plugin lacks", () => {
  test("zeroing becomes durable writes of zeroes after ENOTSUP", async () => {
    const { client, log } = await startProbe();
    expect(await write(client, at("later"), bytes(9, 8192))).toBe(0);
    const zero = { type: WRITE_ZEROES, offset: at("later"), length: 4096 };
    expect(await client.request({ ...zero, flags: FUA })).toBe(0);
    expect(log()).toContain("async zero count=4096 fua=1 flags=1\n");
    expect(log()).toContain("async pwrite count=4096 fua=1\n");
    expect(await read(client, at("later"), 8192)).toEqual(
      Buffer.concat([bytes(0, 4096), bytes(9, 4096)]),
    );
  });

  test("zeroing more than one write can carry becomes several writes", async () => {
    const { client } = await startProbe(["size=200M"]);
    const base = 1 << 20;
    const marks = [0, 64, 128, 149].map((mib) => BigInt(base + mib * (1 << 20)));
    const beyond = BigInt(base + 150 * (1 << 20));
    for (const mark of [...marks, beyond]) expect(await write(client, mark, bytes(3, 512))).toBe(0);
    const zero = { type: WRITE_ZEROES, offset: BigInt(base), length: 150 << 20 };
    expect(await client.request(zero)).toBe(0);
    for (const mark of marks) expect(await read(client, mark, 512)).toEqual(bytes(0, 512));
    expect(await read(client, beyond, 512)).toEqual(bytes(3, 512));
  });

  test("synchronous callbacks serve if an asynchronous one is missing", async () => {
    const { client, log } = await startProbe([], [], "asyncmixed");
    expect(await write(client, at("later"), bytes(4, 512), FUA)).toBe(0);
    expect(log()).toContain("pwrite count=512 flags=0\nflush\n"); // can_fua is not there either
    expect(await client.request({ type: TRIM, offset: at("later"), length: 512, flags: FUA })).toBe(
      0,
    );
    expect(log()).toContain("async trim count=512 fua=1\n");
    expect(await read(client, at("later"), 512)).toEqual(bytes(4, 512));
    const zero = { type: WRITE_ZEROES, offset: at("later"), length: 512, flags: FUA };
    expect(await client.request(zero)).toBe(0);
    expect(await read(client, at("later"), 512)).toEqual(bytes(0, 512));
  });

  test("cache reaches the plugin", async () => {
    const { client, log } = await startProbe();
    expect(await client.request({ type: CACHE, offset: at("later"), length: 4096 })).toBe(0);
    await logged(() => log().includes("cache in 1: 0 0\n"));
  });
});

describe("a lower thread model", () => {
  test.each([
    [0, 1],
    [1, 1],
    [2, 2],
  ])("model %i has at most %i requests unanswered over two clients", async (model, most) => {
    const { client, server, log } = await startProbe([`model=${model}`, "delay-ms=5"]);
    const requests = Array.from({ length: 20 }, (_, i) =>
      encodeRequest({ type: READ, offset: at("later"), length: 512, cookie: BigInt(i) }),
    );
    const readAll = async (from: RawClient) => {
      from.send(...requests);
      for (const _ of requests) {
        expect((await from.readReply()).error).toBe(0);
        await from.read(512);
      }
      await from.leave();
    };
    const second = async () => {
      const other = await RawClient.connect(server.socket);
      await other.go();
      await readAll(other);
    };
    await Promise.all([readAll(client), second()]);
    await server.stop();
    expect(log()).toContain(`most unanswered: ${most}\n`);
  });
});

describe("the end", () => {
  test("of a client comes after its requests' replies: close is the last call", async () => {
    const { client, log } = await startProbe(["delay-ms=300"]);
    client.send(
      ...Array.from({ length: 1000 }, (_, i) =>
        encodeRequest({ type: READ, offset: at("later"), length: 4096, cookie: BigInt(i) }),
      ),
    );
    client.socket.destroy();
    await logged(() => log().includes("close,"));
    expect(log()).toContain("close, 0 unanswered\n");
    expect(log()).toContain("pread in 1: -1 ESHUTDOWN\n");
  });

  test("a client that disconnects gets its replies first", async () => {
    const { client } = await startProbe(["delay-ms=200"]);
    client.send(
      encodeRequest({ type: READ, offset: at("later"), length: 512, cookie: 1n }),
      encodeRequest({ type: DISC }),
    );
    expect((await client.readReply()).error).toBe(0);
    await client.read(512);
    await client.closed();
  });

  test("a request without a reply is given up after the grace period, and named", async () => {
    const { client, server, log } = await startProbe([], ["--grace=300ms"]);
    client.send(
      encodeRequest({ type: READ, offset: at("never") + 512n, length: 4096, cookie: 7n }),
      encodeRequest({ type: DISC }),
    );
    expect(await client.readReply()).toEqual({ error: ESHUTDOWN, cookie: 7n });
    await client.closed();
    await logged(() => log().includes("close, 1 unanswered"));
    expect(server.stderr()).toMatch(/offset=655872 count=4096: the plugin did not reply/);
  });

  test("a late reply to it is refused", async () => {
    const { client, log } = await startProbe(["delay-ms=1000"], ["--grace=100ms"]);
    client.send(
      encodeRequest({ type: READ, offset: at("later"), length: 4096 }),
      encodeRequest({ type: DISC }),
    );
    expect((await client.readReply()).error).toBe(ESHUTDOWN);
    await logged(() => log().includes("pread in 1: -1 ESHUTDOWN"));
    expect(log().indexOf("close,")).toBeLessThan(log().indexOf("pread in 1"));
  });

  test("a stopping server waits for replies for the grace period, and names what is left", async () => {
    const { client, server } = await startProbe(["delay-ms=200"], ["--grace=600ms"]);
    client.send(
      encodeRequest({ type: READ, offset: at("later"), length: 512, cookie: 1n }),
      encodeRequest({ type: READ, offset: at("never"), length: 1024, cookie: 2n }),
    );
    expect(await read(client, at("inline"), 512)).toEqual(bytes(0, 512)); // all have arrived
    server.kill("SIGTERM");
    expect(await client.readReply()).toEqual({ error: 0, cookie: 1n });
    await client.read(512);
    expect(await client.readReply()).toEqual({ error: ESHUTDOWN, cookie: 2n });
    const { status, stderr } = await server.ended;
    expect(stderr).toContain("count=1024: the plugin did not reply");
    // A process that cannot end as usual leaves Node's own memory to the leak checker.
    if (sanitizer === undefined) expect(status).toBe(1);
  });
});
