import { describe, expect, test } from "vitest";
import { ConnectionError, ProtocolError } from "../../../src/client/index.js";
import { Held, settled } from "../../support/held-replies.js";
import { eventually } from "../../support/server.js";
import { FLAGS, opened, right, type WireRequest, type Wrongs } from "../../support/wrong-server.js";

describe("a lost connection", () => {
  const dropping = (): Wrongs & { drops: boolean } => {
    const wrongs = {
      drops: true,
      reply: (request: WireRequest, socket: { destroy(): void }) => {
        if (!wrongs.drops) return right(request, "extended");
        wrongs.drops = false;
        socket.destroy();
        return undefined;
      },
    };
    return wrongs;
  };
  const reconnect = { delayMs: 1, attempts: 3 };

  test("ends a client without a policy", async () => {
    const { client } = await opened(dropping());
    const error = await settled(client.read(0, 512));
    expect(error).toBeInstanceOf(ConnectionError);
    await expect(client.read(0, 512)).rejects.toBe(error);
  });

  test("is replaced, and reads are sent again", async () => {
    const lost: Error[] = [];
    const onLost = (error: Error): unknown => lost.push(error);
    const { client } = await opened(dropping(), { reconnect: { ...reconnect, onLost } });
    expect((await client.read(0, 512))[0]).toBe(7);
    expect(lost).toHaveLength(1);
  });

  test("rejects a write in flight, and goes on", async () => {
    const { client } = await opened(dropping(), { reconnect });
    await expect(client.write(0, Buffer.alloc(512))).rejects.toThrow(ConnectionError);
    await client.write(0, Buffer.alloc(512));
  });

  test("repeats writes on request", async () => {
    const { client } = await opened(dropping(), { reconnect: { ...reconnect, retry: "all" } });
    await client.write(0, Buffer.alloc(512));
  });

  test("makes the next flush fail if writes were not flushed, once", async () => {
    const wrongs = dropping();
    wrongs.drops = false;
    const { client } = await opened(wrongs, { reconnect });
    await client.write(0, Buffer.alloc(512));
    wrongs.drops = true;
    await client.read(0, 512);
    await expect(client.flush()).rejects.toMatchObject({ code: "EIO" });
    await client.flush();
  });

  test("makes the next flush fail if a flush was in flight", async () => {
    const wrongs = dropping();
    wrongs.drops = false;
    const { client } = await opened(wrongs, { reconnect });
    await client.write(0, Buffer.alloc(512));
    wrongs.drops = true;
    await expect(client.flush()).rejects.toThrow(ConnectionError);
    await expect(client.flush()).rejects.toMatchObject({ code: "EIO" });
    await client.flush();
  });

  test("lets a flush succeed if there was nothing to flush", async () => {
    const wrongs = dropping();
    wrongs.drops = false;
    const { client } = await opened(wrongs, { reconnect });
    await client.write(0, Buffer.alloc(512));
    await client.flush();
    wrongs.drops = true;
    await client.read(0, 512);
    await client.flush();
  });

  test("is not replaced by another disk", async () => {
    let size = 65536;
    const wrongs = { ...dropping(), sizeBytes: () => size };
    const { client } = await opened(wrongs, { reconnect });
    size = 4096;
    await expect(client.read(0, 512)).rejects.toMatchObject({ code: "ECHANGED" });
  });

  test("is given up after a number of attempts", async () => {
    const { client, server } = await opened(dropping(), { reconnect });
    server.server.close();
    await expect(client.read(0, 512)).rejects.toThrow(ConnectionError);
    await expect(client.read(0, 512)).rejects.toThrow(ConnectionError);
  });

  test("after a broken rule is not replaced", async () => {
    const { client, server } = await opened({ reply: () => Buffer.alloc(32) }, { reconnect });
    await expect(client.read(0, 512)).rejects.toThrow(ProtocolError);
    await expect(client.read(0, 512)).rejects.toThrow(ProtocolError);
    expect(server.sockets.size).toBeLessThanOrEqual(1);
  });
});

describe("several connections", () => {
  test("share the requests if the server allows it", async () => {
    const held = new Held();
    const { client, server } = await opened(held, { connections: 3 });
    expect(client.connections).toBe(3);
    expect(server.sockets.size).toBe(3);
    const reads = Array.from({ length: 6 }, () => client.read(0, 512));
    await held.arrived(6);
    held.release();
    await Promise.all(reads);
    await client.close();
    await eventually("the end", () => server.sockets.size === 0 || undefined);
  });

  test("are one if it does not", async () => {
    const { client } = await opened({ flags: (FLAGS & ~256) | 128 }, { connections: 3 });
    expect(client.connections).toBe(1);
  });
});
