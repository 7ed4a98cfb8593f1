// Block devices behind the shipped plugins: any range can be written, zeroed and trimmed, whatever
// the size of the device's sectors.

import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { MIB, patternBytes } from "../support/fixtures.js";
import { CMD, ERRNO, FLAG } from "../support/protocol.js";
import { RawClient, type RequestFields } from "../support/raw-client.js";
import { startServer } from "../support/server.js";

const SIZE = MIB;

/** A loop device of some content; detached when the test is over. */
function makeDevice(content: Uint8Array, ...options: string[]): string {
  const directory = mkdtempSync(join(tmpdir(), "asyncnbd-test-"));
  const image = join(directory, "disk.img");
  writeFileSync(image, content);
  const command = ["-f", "--show", ...options, image];
  const device = execFileSync("losetup", command, { encoding: "utf8" }).trim();
  onTestFinished(() => {
    execFileSync("losetup", ["-d", device]);
    rmSync(directory, { recursive: true });
  });
  return device;
}

function hasLoopDevices(): boolean {
  try {
    execFileSync("losetup", ["-f"], { stdio: "ignore" });
    return process.getuid?.() === 0;
  } catch {
    return false;
  }
}

/** Aligned to nothing, to one end, to both; within a sector, across two, of many. */
const ranges = [512, 4096].flatMap((sector) => [
  { offset: 1, length: 1 },
  { offset: sector, length: sector },
  { offset: 3 * sector - 7, length: 14 },
  { offset: 5 * sector + 1, length: 2 * sector - 2 },
  { offset: 10 * sector, length: 3 * sector + 5 },
  { offset: 20 * sector + 9, length: 3 * sector - 9 },
  { offset: 100_001, length: 300_000 },
  { offset: 500_017, length: 400_000 },
  { offset: SIZE - 1, length: 1 },
  { offset: SIZE - sector - 3, length: sector + 3 },
]);

const plugins: [string, string[]][] = [
  ["file", []],
  ["async-file", ["engine=io_uring"]],
  ["async-file", ["engine=threads"]],
  ["async-file", ["engine=io_uring", "direct=true"]],
];
const sectors = plugins.flatMap(([name, more]) =>
  [512, 4096].map((sector) => [name, more, sector] as const),
);

describe.skipIf(!hasLoopDevices()).each(sectors)(
  "%s %j, sectors of %i bytes",
  (name, more, sector) => {
    const connect = async (device: string) => {
      const server = await startServer([name, device, ...more]);
      return { server, client: await RawClient.open(server.socket) };
    };
    const readAll = async (client: RawClient) => {
      expect(await client.request({ type: CMD.READ, length: SIZE })).toBe(0);
      return client.read(SIZE);
    };

    test("zeroes and writes any range", async () => {
      const expected = patternBytes(SIZE);
      const device = makeDevice(expected, "-b", String(sector));
      const { server, client } = await connect(device);
      for (const flags of [0, FLAG.FUA, FLAG.NO_HOLE])
        for (const { offset, length } of ranges) {
          const range: RequestFields = { type: CMD.WRITE_ZEROES, offset: BigInt(offset), length };
          const what = `${length} bytes at ${offset}, flags ${flags}`;
          expect(await client.request({ ...range, flags }), what).toBe(0);
          expected.fill(0, offset, offset + length);
          expect((await readAll(client)).equals(expected), what).toBe(true);
          const payload = patternBytes(length, 3 + flags);
          expect(await client.request({ ...range, type: CMD.WRITE, payload }), what).toBe(0);
          payload.copy(expected, offset);
        }
      expect(await client.request({ type: CMD.FLUSH })).toBe(0);
      expect((await readAll(client)).equals(expected)).toBe(true);
      await server.stop();
      expect(readFileSync(device).equals(expected)).toBe(true);
    });

    test("trims any range and nothing around it", async () => {
      const content = patternBytes(SIZE);
      const device = makeDevice(content, "-b", String(sector));
      const { server, client } = await connect(device);
      for (const flags of [0, FLAG.FUA])
        for (const { offset, length } of ranges) {
          const what = `${length} bytes at ${offset}, flags ${flags}`;
          const range = { type: CMD.TRIM, offset: BigInt(offset), length, flags };
          expect(await client.request(range), what).toBe(0);
          const now = await readAll(client);
          for (const [at, byte] of now.subarray(offset, offset + length).entries())
            if (byte !== 0 && byte !== content[offset + at]) throw new Error(`${what}: other data`);
          now.copy(content, offset, offset, offset + length);
          expect(now.equals(content), what).toBe(true);
        }
      // That whole sectors were trimmed, or else the rest would prove nothing.
      expect(content.subarray(507_904, 892_928).equals(Buffer.alloc(385_024))).toBe(true);
      await server.stop();
    });

    test("a read-only device is served read-only", async () => {
      const device = makeDevice(Buffer.alloc(SIZE), "-r", "-b", String(sector));
      const { server, client } = await connect(device);
      expect(await client.request({ type: CMD.WRITE, payload: Buffer.alloc(512) })).toBe(
        ERRNO.EPERM,
      );
      expect(await client.request({ type: CMD.READ, length: 512 })).toBe(0);
      await server.stop();
    });
  },
);

describe.skipIf(!hasLoopDevices())("async-file", () => {
  test("makes a fast zero of any range, or refuses it at once", async () => {
    const expected = patternBytes(SIZE);
    const server = await startServer(["async-file", makeDevice(expected, "-b", "4096")]);
    const client = await RawClient.open(server.socket);
    const range = { type: CMD.WRITE_ZEROES, offset: 5n, length: 100_000 };
    expect(await client.request({ ...range, flags: FLAG.FAST_ZERO | FLAG.NO_HOLE })).toBe(
      ERRNO.ENOTSUP,
    );
    expect(await client.request({ ...range, flags: FLAG.FAST_ZERO })).toBe(0);
    expected.fill(0, 5, 100_005);
    expect(await client.request({ type: CMD.READ, length: SIZE })).toBe(0);
    expect((await client.read(SIZE)).equals(expected)).toBe(true);
    await server.stop();
  });
});
