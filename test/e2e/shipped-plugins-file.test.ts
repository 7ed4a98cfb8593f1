// What the shipped file plugin does beyond reading and writing.

import {
  chmodSync,
  closeSync,
  openSync,
  readFileSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import { apply, buildLoad } from "../../bench/support/load.mjs";
import { runOk } from "../support/command.js";
import { MIB, patternBytes } from "../support/fixtures.js";
import { CMD, ERRNO, EXPORT_FLAG, FLAG } from "../support/protocol.js";
import { encodeRequest, RawClient } from "../support/raw-client.js";
import { refusalOf } from "../support/refusal.js";
import { asyncnbd, SHARED_MEMORY, startServer, temporaryDirectory } from "../support/server.js";
import { StrictClient, type Style } from "../support/strict-client.js";

const { READ, WRITE, FLUSH, TRIM, WRITE_ZEROES } = CMD;
const { FUA, NO_HOLE } = FLAG;

describe("the file plugin", () => {
  const makeDisk = (bytes: number, parent?: string): string => {
    const disk = join(temporaryDirectory(parent), "disk.img");
    writeFileSync(disk, patternBytes(bytes));
    return disk;
  };
  const allocatedBytes = (disk: string): number => statSync(disk).blocks * 512;

  test("punches holes for trim and zero, and keeps the size", async () => {
    const disk = makeDisk(4 * MIB);
    const server = await startServer(["file", disk]);
    const client = await RawClient.open(server.socket);
    expect(await client.request({ type: TRIM, length: MIB })).toBe(0);
    expect(
      await client.request({ type: WRITE_ZEROES, offset: BigInt(MIB), length: MIB, flags: FUA }),
    ).toBe(0);
    expect(allocatedBytes(disk)).toBeLessThanOrEqual(2 * MIB + 65536);
    expect(statSync(disk).size).toBe(4 * MIB);
    expect((await client.readAt(BigInt(MIB), MIB)).equals(Buffer.alloc(MIB))).toBe(true);
    await server.stop();
  });

  test("keeps zeroes allocated for a client that wants no hole", async () => {
    const disk = makeDisk(2 * MIB);
    const server = await startServer(["file", disk]);
    const client = await RawClient.open(server.socket);
    const request = { type: WRITE_ZEROES, length: MIB, flags: NO_HOLE };
    expect(await client.request(request)).toBe(0);
    expect(allocatedBytes(disk)).toBeGreaterThanOrEqual(2 * MIB);
    expect((await client.readAt(0n, MIB)).equals(Buffer.alloc(MIB))).toBe(true);
    await server.stop();
  });

  test("stores writes in the file", async () => {
    const disk = makeDisk(MIB);
    const server = await startServer(["file", disk]);
    const client = await RawClient.open(server.socket);
    const data = patternBytes(100_000, 7);
    expect(await client.request({ type: WRITE, offset: 12345n, payload: data, flags: FUA })).toBe(
      0,
    );
    expect(
      readFileSync(disk)
        .subarray(12345, 12345 + data.length)
        .equals(data),
    ).toBe(true);
    await server.stop();
  });

  test("serves a file that the user may only read as read-only", async () => {
    const directory = temporaryDirectory();
    const disk = join(directory, "disk.img");
    writeFileSync(disk, Buffer.alloc(MIB));
    chmodSync(disk, 0o444);
    chmodSync(directory, 0o777);
    // Root may write anything, so the server becomes someone else first.
    const options = process.getuid?.() === 0 ? ["-u", "nobody", "-g", "nogroup"] : [];
    const server = await startServer(["file", disk], { options });
    const client = await RawClient.connect(server.socket);
    expect((await client.go()).flags & EXPORT_FLAG.READ_ONLY).toBe(EXPORT_FLAG.READ_ONLY);
    expect(await client.request({ type: WRITE, payload: Buffer.alloc(512) })).toBe(ERRNO.EPERM);
    await server.stop();
  });

  test.each([tmpdir(), SHARED_MEMORY])(
    "reports a file in %s that shrank as EIO, and goes on",
    async (parent) => {
      const disk = makeDisk(MIB, parent);
      const server = await startServer(["file", disk]);
      const client = await RawClient.open(server.socket);
      // The second time, the page cache is known to have it.
      for (let i = 0; i < 2; i++) await client.readAt(8192n, 4096);
      truncateSync(disk, 4096);
      for (const offset of [8192n, 4096n, 8192n])
        for (const length of [512, 131_072])
          expect(await client.request({ type: READ, offset, length })).toBe(ERRNO.EIO);
      expect(await client.request({ type: READ, offset: 0n, length: 131_072 })).toBe(ERRNO.EIO);
      expect(await client.readAt(0n, 4096)).toEqual(patternBytes(MIB).subarray(0, 4096));
      truncateSync(disk, MIB);
      expect(await client.readAt(8192n, 4096)).toEqual(Buffer.alloc(4096));
      await server.stop();
      expect(server.stderr()).toContain("unexpected end of file");
    },
  );

  test("reads changes by other programs, and allocates nothing for holes", async () => {
    const disk = makeDisk(MIB, SHARED_MEMORY);
    truncateSync(disk, 4 * MIB);
    const server = await startServer(["file", disk]);
    const client = await RawClient.open(server.socket);
    for (let i = 0; i < 3; i++)
      for (let offset = 0; offset < 4 * MIB; offset += 8192) {
        const expected = offset < MIB ? patternBytes(MIB).subarray(offset, offset + 8192) : null;
        const data = await client.readAt(BigInt(offset), 8192);
        expect(data.equals(expected ?? Buffer.alloc(8192)), `at ${offset}`).toBe(true);
      }
    expect((await client.readAt(2n * BigInt(MIB), 2 * MIB)).equals(Buffer.alloc(2 * MIB))).toBe(
      true,
    );
    expect(allocatedBytes(disk)).toBeLessThanOrEqual(MIB + 65536);
    // That the file is mapped, or else the rest would prove nothing.
    expect(readFileSync(`/proc/${server.pid}/maps`, "utf8")).toContain(disk);

    const ours = Buffer.alloc(4096, 1);
    expect(await client.request({ type: WRITE, offset: 4096n, payload: ours })).toBe(0);
    expect(await client.readAt(4096n, 4096)).toEqual(ours);
    const theirs = Buffer.alloc(4096, 2);
    const fd = openSync(disk, "r+");
    writeSync(fd, theirs, 0, theirs.length, 4096);
    closeSync(fd);
    expect(await client.readAt(4096n, 4096)).toEqual(theirs);

    expect(await client.request({ type: TRIM, length: MIB })).toBe(0);
    for (let i = 0; i < 3; i++)
      expect(await client.readAt(4096n, 4096)).toEqual(Buffer.alloc(4096));
    expect(allocatedBytes(disk)).toBeLessThanOrEqual(65536);
    await server.stop();
  });

  test.each<["unix" | "tcp", string]>([
    ["unix", tmpdir()],
    ["tcp", SHARED_MEMORY],
  ])("large writes over %s to a file in %s land in their place", async (transport, parent) => {
    buildLoad();
    const server = await startServer(["file", makeDisk(16 * MIB, parent)], { transport });
    for (const bytes of [4096, 64 << 10, 128 << 10, 256 << 10, 600 << 10]) {
      const load = { bytes, verify: true, readPercent: 50, seconds: 0.3 };
      expect(
        (await apply(String(server.where), { ...load, depth: 8, connections: 3 })).verified,
      ).toBeGreaterThan(0);
    }
    await server.stop();
  });

  test.each<"unix" | "tcp">(["unix", "tcp"])(
    "a client that waits for replies before it sends on gets them, over %s",
    async (transport) => {
      const server = await startServer(["file", makeDisk(MIB)], { transport });
      const client = await RawClient.open(server.where);
      const data = Buffer.alloc(131_072, 1);
      const header = encodeRequest({ type: WRITE, length: data.length });
      client.send(header, data, header);
      for (let i = 0; i < 3; i++) {
        expect((await client.readReply()).error).toBe(0);
        client.send(data.subarray(0, 70_000));
        await new Promise((resolve) => setTimeout(resolve, 20)); // so that it comes in two parts
        client.send(data.subarray(70_000), header);
      }
      expect((await client.readReply()).error).toBe(0);
      await server.stop();
    },
  );

  test("a large write that the file accepts only in part fails, and the next succeeds", async () => {
    const disk = makeDisk(MIB);
    const limit = ["sh", "-c", 'ulimit -f 512; exec "$@"', "sh"]; // blocks of 512 bytes
    const server = await startServer(["file", disk], { command: [...limit, ...asyncnbd] });
    const client = await RawClient.open(server.socket);
    const data = patternBytes(131_072, 9);
    for (const [offset, error] of [
      [0, 0], // after which a payload is received apart from its header
      [262_144 - 65_536, 28],
      [300_000, 28],
      [1, 0],
    ] as const)
      expect(await client.request({ type: WRITE, offset: BigInt(offset), payload: data })).toBe(
        error,
      );
    await server.stop();
    expect(server.stderr()).toContain("pwrite: File too large");
    const expected = patternBytes(MIB);
    data.copy(expected, 262_144 - 65_536, 0, 65_536);
    data.copy(expected, 0);
    data.copy(expected, 1);
    expect(readFileSync(disk).equals(expected)).toBe(true);
  });

  describe.each<Style>(["simple", "structured", "extended"])("with %s replies", (style) => {
    test.each<"unix" | "tcp">(["unix", "tcp"])(
      "sends parts of all sizes from the page cache over %s",
      async (transport) => {
        const bytes = 5 * MIB + 1536;
        const disk = makeDisk(bytes);
        const content = patternBytes(bytes);
        const server = await startServer(["file", disk], { transport });
        const client = await StrictClient.connect(server.where, { style });
        const requests = [16_384, 16_385, 65_536, 131_072, MIB, MIB + 1, bytes - 4097].flatMap(
          (length) =>
            [0, 1, 4097, bytes - length].map((offset) => ({
              ...{ type: READ, offset: BigInt(offset), length },
            })),
        );
        const replies = await client.requests(...requests);
        for (const [i, { offset, length }] of requests.entries()) {
          const due = content.subarray(Number(offset), Number(offset) + length);
          expect(replies[i]?.error).toBe(0);
          expect(replies[i]?.data?.equals(due), `${length} bytes at ${offset}`).toBe(true);
        }
        await client.disconnect();
        await server.stop();
      },
    );
  });

  test("serves nothing outside its directory", async () => {
    const directory = temporaryDirectory();
    writeFileSync(join(directory, "disk.img"), Buffer.alloc(512));
    symlinkSync("/nonexistent", join(directory, "dangling"));
    const server = await startServer(["file", `dir=${directory}`]);
    const list = await runOk(["nbdinfo", "--list", "--json", server.uri]);
    expect(JSON.parse(list).exports).toHaveLength(1);
    for (const name of ["", ".", "..", "../disk.img", "/etc/passwd", "dangling"]) {
      const client = await RawClient.connect(server.socket);
      await expect(client.go(name), name).rejects.toThrow("refused");
    }
    await server.stop();
  });

  test("refuses what is neither a file nor a block device", async () => {
    expect(await refusalOf(["file", "/dev/null"])).toContain("/dev/null is neither");
  });

  test("serves a deleted file", async () => {
    const disk = makeDisk(MIB);
    const fd = openSync(disk, "r");
    const server = await startServer(["file", `/proc/${process.pid}/fd/${fd}`]);
    const client = await RawClient.open(server.socket);
    expect((await client.readAt(0n, MIB)).equals(patternBytes(MIB))).toBe(true);
    await server.stop();
  });

  test.each<"fd" | "dirfd">(["fd", "dirfd"])("serves an open descriptor: %s=", async (key) => {
    const disk = makeDisk(MIB);
    const served = key === "fd" ? disk : dirname(disk);
    const script = `set -e
      ${key === "fd" ? 'exec 7<>"$1"' : 'exec 7<"$1"'}
      shift
      exec "$@"`;
    const check = `set -e
      uri=$(echo "$uri" | sed 's,://,:///${key === "fd" ? "" : "disk.img"},')
      nbdcopy "$uri" - | cmp - ${disk}
      nbdcopy "$uri" - | cmp - ${disk}
      /usr/bin/python3 -m nbd -u "$uri" -c 'h.pwrite(b"written", 5)'`;
    const server = [...asyncnbd, "-U", "-", "file", `${key}=7`, "--run", check];
    await runOk(["bash", "-c", script, "bash", served, ...server]);
    expect(readFileSync(disk).toString("latin1", 5, 12)).toBe("written");
  });

  test("fd= of a descriptor opened for reading is read-only", async () => {
    const words = [...asyncnbd, "-U", "-", "file", "fd=7", "--run", 'nbdinfo --json "$uri"'];
    const info = await runOk(["bash", "-c", 'exec 7<"$0" "$@"', makeDisk(MIB), ...words]);
    expect(JSON.parse(info).exports[0].is_read_only).toBe(true);
  });

  test.each([
    [["fd=7"], "descriptor 7: Bad file descriptor"],
    [["dirfd=x"], "dirfd"],
    [["fd=2"], "above the standard streams"],
    [["disk.img", "dir=."], "exclude each other"],
    [["disk.img", "cache=writeback"], "use default or none"],
  ])("%j is refused", async (words, why) => {
    const cwd = dirname(makeDisk(512));
    expect(await refusalOf(["file", ...words], { cwd })).toContain(why);
  });

  test("leaves nothing in the page cache with cache=none", async () => {
    const cachedBytes = async (file: string): Promise<number> =>
      Number(await runOk(["fincore", "--bytes", "--noheadings", "--output", "RES", file]));
    const length = 16 * MIB;
    const data = patternBytes(length, 3);
    for (const mode of ["default", "none"]) {
      const disk = makeDisk(0); // written by us, it would be in the cache in pieces of another size
      truncateSync(disk, length);
      const server = await startServer(["file", disk, `cache=${mode}`]);
      const client = await RawClient.open(server.socket);
      const share = async (): Promise<string> =>
        (await cachedBytes(disk)) < length / 8 ? "little" : "much";
      for (let at = 0; at < length; at += MIB)
        await client.request({
          type: WRITE,
          offset: BigInt(at),
          payload: data.subarray(at, at + MIB),
        });
      expect(await client.request({ type: FLUSH })).toBe(0);
      expect(await share(), mode).toBe(mode === "none" ? "little" : "much");
      for (let at = 0; at < length; at += MIB)
        expect((await client.readAt(BigInt(at), MIB)).equals(data.subarray(at, at + MIB))).toBe(
          true,
        );
      await server.stop();
      expect(await share(), mode).toBe(mode === "none" ? "little" : "much");
      expect(readFileSync(disk).equals(data)).toBe(true);
    }
  });
});
