// The shipped rbd plugin, with a real Ceph cluster.

import { randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { startCeph } from "../support/ceph.js";
import { runOk } from "../support/command.js";
import { connectTo, copyInAndOut, read, write } from "../support/disk-client.js";
import { randomLoad, verifyByFio } from "../support/fio.js";
import { MIB } from "../support/fixtures.js";
import { CMD, ERRNO, EXPORT_FLAG, FLAG } from "../support/protocol.js";
import { refusalOf } from "../support/refusal.js";
import {
  eventually,
  type RunningServer,
  startServer,
  temporaryDirectory,
} from "../support/server.js";

const ceph = startCeph();

let images = 0;
/** A new image's name. */
async function makeImage(size = "64M"): Promise<string> {
  images++;
  const name = `disk${images}`;
  await ceph.run("rbd", "create", "--size", size, `rbd/${name}`);
  return name;
}

const serve = (...parameters: readonly string[]): Promise<RunningServer> =>
  startServer(["rbd", ...parameters, `conf=${ceph.conf}`]);

const refusal = (...parameters: readonly string[]): Promise<string> =>
  refusalOf(["rbd", ...parameters, `conf=${ceph.conf}`]);

describe("an image", () => {
  test("is copied in and out, with its holes", async () => {
    const name = await makeImage();
    const server = await serve(`rbd/${name}`);
    const content = await copyInAndOut(server, 64 * MIB);
    const exported = join(temporaryDirectory(), "out");
    await ceph.run("rbd", "export", "--no-progress", `rbd/${name}`, exported);
    expect(readFileSync(exported).equals(content)).toBe(true);
  });

  test("verifies under random writes and reads at depth 64", async () => {
    const server = await serve(`rbd/${await makeImage("16M")}`);
    await verifyByFio(server, randomLoad(64, "16m", "16m"));
  });

  test("zeroes, trims, flushes and offers what it can", async () => {
    const server = await serve(await makeImage("8M"));
    const client = await connectTo(server);
    const data = randomBytes(4 * MIB);
    await write(client, 0, data);
    const zero = (offset: number, length: number, flags: number) =>
      client.request({ type: CMD.WRITE_ZEROES, offset: BigInt(offset), length, flags });
    expect((await zero(4096, 8192, FLAG.FUA)).error).toBe(0);
    expect((await zero(MIB, 4096, FLAG.NO_HOLE)).error).toBe(0);
    expect((await zero(MIB, 4096, FLAG.NO_HOLE | FLAG.FAST_ZERO)).error).toBe(ERRNO.ENOTSUP);
    data.fill(0, 4096, 4096 + 8192).fill(0, MIB, MIB + 4096);
    expect((await read(client, 0, data.length)).equals(data)).toBe(true);
    const trim = { type: CMD.TRIM, offset: 0n, length: 4 * MIB, flags: FLAG.FUA };
    expect((await client.request(trim)).error).toBe(0);
    expect((await client.request({ type: CMD.FLUSH })).error).toBe(0);
    expect((await read(client, 0, MIB)).equals(Buffer.alloc(MIB))).toBe(true);
    expect(client.sizeBytes).toBe(BigInt(8 * MIB));
  });

  // This store takes an object for data from its beginning to where it ends.
  test("has extents for ranges inside objects", async () => {
    const server = await serve(await makeImage("16M"));
    const client = await connectTo(server);
    await write(client, 4 * MIB, randomBytes(8192));
    const id = client.contexts.get("base:allocation") as number;
    const status = async (offset: number, length: number) => {
      const request = { type: CMD.BLOCK_STATUS, offset: BigInt(offset), length };
      return (await client.request(request)).statuses.get(id);
    };
    expect(await status(4 * MIB + 4096, MIB)).toEqual([
      [4096n, 0n],
      [BigInt(MIB - 4096), 3n],
    ]);
    expect(await status(3 * MIB + 512, 2 * MIB)).toEqual([
      [BigInt(MIB - 512), 3n],
      [8192n, 0n],
      [BigInt(MIB - 8192 + 512), 3n],
    ]);
  });

  test("that is striped shows no hole over data", async () => {
    images++;
    const name = `disk${images}`;
    const striping = ["--object-size=1M", "--stripe-unit=64K", "--stripe-count=4"];
    await ceph.run("rbd", "create", "--size=16M", ...striping, `rbd/${name}`);
    const client = await connectTo(await serve(name));
    const [begin, end] = [5 * MIB + 4096, 5 * MIB + 200_000];
    await write(client, begin, randomBytes(end - begin));
    const id = client.contexts.get("base:allocation") as number;
    for (const offset of [0, MIB + 512, 5 * MIB, begin + 8192]) {
      const request = { type: CMD.BLOCK_STATUS, offset: BigInt(offset), length: 8 * MIB };
      const extents = (await client.request(request)).statuses.get(id) ?? [];
      let at = BigInt(offset);
      for (const [length, flags] of extents) {
        const overlaps = at < BigInt(end) && at + length > BigInt(begin);
        if (flags !== 0n)
          expect([offset, at, length, overlaps]).toEqual([offset, at, length, false]);
        at += length;
      }
      expect(at).toBeGreaterThanOrEqual(BigInt(end));
    }
  });

  test("keeps writes between a client and the next", async () => {
    const server = await serve(await makeImage("8M"), "cache=true");
    for (let i = 0; i < 5; i++) {
      const payload = randomBytes(64 * 1024);
      const last = await connectTo(server);
      await write(last, 0, payload);
      const [next] = await Promise.all([connectTo(server), last.disconnect()]);
      expect((await read(next, 0, payload.length)).equals(payload)).toBe(true);
      await next.disconnect();
    }
  });

  test("shows each client the writes of others", async () => {
    const server = await serve(await makeImage("8M"));
    const [one, other] = [await connectTo(server), await connectTo(server)];
    const data = randomBytes(64 * 1024);
    await write(one, 100, data);
    expect((await read(other, 100, data.length)).equals(data)).toBe(true);
    expect(one.flags & EXPORT_FLAG.CAN_MULTI_CONN).toBe(EXPORT_FLAG.CAN_MULTI_CONN); // several connections
  });

  test("that is resized has its new size for the next client", async () => {
    const name = await makeImage("8M");
    const server = await serve(name);
    const first = await connectTo(server);
    await ceph.run("rbd", "resize", "--no-progress", "--size", "12M", `rbd/${name}`);
    expect((await connectTo(server)).sizeBytes).toBe(BigInt(12 * MIB));
    expect(first.sizeBytes).toBe(BigInt(8 * MIB));
    await ceph.run(
      "rbd",
      "resize",
      "--no-progress",
      "--allow-shrink",
      "--size",
      "4M",
      `rbd/${name}`,
    );
    const { error } = await first.read(BigInt(6 * MIB), 4096);
    expect([0, ERRNO.EINVAL]).toContain(error);
  });

  test("is created if missing", async () => {
    const server = await serve("rbd/made", "create=20M");
    expect((await connectTo(server)).sizeBytes).toBe(BigInt(20 * MIB));
    await server.stop();
    const again = await serve("rbd/made", "create=30M");
    expect((await connectTo(again)).sizeBytes).toBe(BigInt(20 * MIB));
  });

  test("can be in a namespace", async () => {
    await ceph.run("rbd", "namespace", "create", "rbd/ours");
    const server = await serve("rbd/ours/disk", "create=4M");
    await write(await connectTo(server), 0, randomBytes(512));
    expect(await ceph.run("rbd", "ls", "rbd/ours")).toBe("disk\n");
  });
});

describe("snapshots and clones", () => {
  test("a snapshot has the old data and is read-only", async () => {
    const name = await makeImage("8M");
    const server = await serve(name);
    const client = await connectTo(server);
    const before = randomBytes(4096);
    await write(client, 8192, before);
    await client.request({ type: CMD.FLUSH });
    await ceph.run("rbd", "snap", "create", "--no-progress", `rbd/${name}@then`);
    await write(client, 8192, randomBytes(4096));
    const then = await connectTo(await serve(`rbd/${name}@then`));
    expect((await read(then, 8192, 4096)).equals(before)).toBe(true);
    expect(then.flags & EXPORT_FLAG.READ_ONLY).toBe(EXPORT_FLAG.READ_ONLY);
    const refused = await then.request({ type: CMD.WRITE, payload: randomBytes(512) });
    expect(refused.error).toBe(ERRNO.EPERM);
  });

  test("a clone has its parent's data, and holes where neither has any", async () => {
    const name = await makeImage("8M");
    const server = await serve(name);
    const client = await connectTo(server);
    const data = randomBytes(4096);
    await write(client, 0, data);
    await client.request({ type: CMD.FLUSH });
    await ceph.run("rbd", "snap", "create", "--no-progress", `rbd/${name}@base`);
    await ceph.run("rbd", "clone", "--rbd-default-clone-format=2", `rbd/${name}@base`, "rbd/clone");
    const clone = await connectTo(await serve("rbd/clone"));
    expect((await read(clone, 0, 4096)).equals(data)).toBe(true);
    const id = clone.contexts.get("base:allocation") as number;
    const request = { type: CMD.BLOCK_STATUS, offset: 0n, length: 8 * MIB };
    const [first, ...rest] = (await clone.request(request)).statuses.get(id) ?? [];
    expect(first).toEqual([4096n, 0n]);
    expect(rest.every(([, flags]) => flags === 3n)).toBe(true);
    await write(clone, MIB, data);
    expect((await read(clone, 0, 4096)).equals(data)).toBe(true);
  });
});

describe("a pool", () => {
  test("offers its images as exports by name", async () => {
    const name = await makeImage("4M");
    const server = await serve("pool=rbd");
    const list = await runOk(["nbdinfo", "--list", server.uri]);
    expect(list).toContain(`export="${name}"`);
    const client = await connectTo(server, name);
    expect(client.sizeBytes).toBe(BigInt(4 * MIB));
    await expect(connectTo(server, "nosuch")).rejects.toThrow("NBD_OPT_GO");
    await expect(connectTo(server, "")).rejects.toThrow("NBD_OPT_GO");
    for (const words of ["there is no image rbd/nosuch", "a client must name one as its export"])
      await eventually(words, () => server.stderr().includes(words) || undefined);
  });
});

describe("mistakes are reported at the start", () => {
  test.each([
    [["rbd/nosuch"], "there is no image rbd/nosuch"],
    [["nopool/disk"], 'the Ceph cluster has no pool "nopool"'],
    [[], "the image is missing: give [POOL/[NAMESPACE/]]IMAGE[@SNAPSHOT]"],
    [["a/b/c/d"], "rbd=a/b/c/d: use [POOL/[NAMESPACE/]]IMAGE[@SNAPSHOT]"],
    [["rbd/disk", "nosuch=1"], 'unknown parameter "nosuch"'],
    [["pool=rbd", "create=1M"], "need an image"],
    [["rbd/disk@then", "exclusive=true"], "snapshots are read-only and need no lock"],
    [["rbd/disk@then", "create=1M"], "create= creates images, not snapshots"],
  ])("%j", async (parameters, words) => {
    expect(await refusal(...parameters)).toContain(words);
  });

  test("no such snapshot", async () => {
    expect(await refusal(`rbd/${await makeImage()}@nosuch`)).toContain('with a snapshot "nosuch"');
  });

  test("no configuration, and no monitor", async () => {
    expect(await refusalOf(["rbd", "a/b", "conf=/nosuch.conf"])).toContain(
      "cannot read Ceph's configuration /nosuch.conf",
    );
    const conf = join(temporaryDirectory(), "ceph.conf");
    writeFileSync(conf, "[global]\nmon_host = 127.0.0.1:1\nauth_client_required = none\n");
    expect(await refusalOf(["rbd", "a/b", `conf=${conf}`, "connect-timeout=1500ms"])).toContain(
      "no monitor of the Ceph cluster answers within 2 s",
    );
  });
});

describe("two servers with one image", () => {
  test("write in turns, and the lock passes", async () => {
    const name = await makeImage("8M");
    const [one, other] = [await serve(name), await serve(name)];
    const [a, b] = [await connectTo(one), await connectTo(other)];
    for (let i = 0; i < 3; i++) {
      const [first, second] = [randomBytes(4096), randomBytes(4096)];
      await write(a, i * 8192, first);
      await a.request({ type: CMD.FLUSH });
      await write(b, i * 8192 + 4096, second);
      await b.request({ type: CMD.FLUSH });
      expect((await read(a, i * 8192 + 4096, 4096)).equals(second)).toBe(true);
    }
  });

  test("with exclusive=true the second can neither write nor start with exclusive=true", async () => {
    const name = await makeImage("8M");
    const first = await serve(name, "exclusive=true");
    await write(await connectTo(first), 0, randomBytes(512));
    expect(await refusal(name, "exclusive=true")).toContain("another client holds its lock");
    const second = await serve(name);
    const refused = { type: CMD.WRITE, payload: randomBytes(512) };
    expect((await (await connectTo(second)).request(refused)).error).toBe(ERRNO.EPERM);
    await eventually("its line in the log", () =>
      second.stderr().includes("another client holds the image's exclusive lock")
        ? true
        : undefined,
    );
    await second.stop();
    await first.stop();
    await write(await connectTo(await serve(name, "exclusive=true")), 0, randomBytes(512));
  });
});

const setRatios = async (...ratios: readonly string[]): Promise<void> => {
  const names = ["nearfull", "backfillfull", "full"];
  for (const [i, ratio] of ratios.entries())
    await ceph.run("ceph", "osd", `set-${names[i]}-ratio`, ratio);
};

describe("a cluster that", () => {
  test("is full refuses writes, and takes them again when there is room", async () => {
    const client = await connectTo(await serve(await makeImage("8M"), "cache=false"));
    await write(client, 0, randomBytes(4 * MIB));
    let at = 4 * MIB;
    /** Until a write that takes room has that result: the cluster needs time to notice. */
    const writeUntil = (error: number) =>
      eventually(`error ${error}`, async () => {
        const offset = BigInt(at);
        at += 4096;
        const reply = await client.request({ type: CMD.WRITE, offset, payload: randomBytes(4096) });
        return reply.error === error ? true : undefined;
      });
    await setRatios("0.0001", "0.0002", "0.0003");
    try {
      await writeUntil(ERRNO.ENOSPC);
      expect(await refusal("rbd/unmade", "create=8M")).toBe(
        "asyncnbd: error: cannot create the image rbd/unmade: the pool or the cluster is full\n",
      );
      await connectTo(await serve(`disk${images}`)); // it can be read
    } finally {
      await setRatios("0.85", "0.9", "0.95");
    }
    await writeUntil(0);
  });
});
