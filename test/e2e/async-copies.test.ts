// Asynchronous plugins that name their file: the server moves what takes no longer than a copy, and
// tells the plugin whether it may take that long, too.

import { expect, test } from "vitest";
import { CMD, FLAG } from "../support/protocol.js";
import { RawClient } from "../support/raw-client.js";
import { startServer, testPlugin } from "../support/server.js";

const LARGE = { offset: 8192n, length: 131_072 };

/** Writes 128 KiB of a byte each time, and reads; returns what the plugin was called for. */
async function calls(parameters: string[], options: string[] = []): Promise<string[]> {
  const server = await startServer([testPlugin("asyncfiled"), ...parameters], { options });
  const client = await RawClient.open(server.socket);
  for (const [byte, flags] of [
    [1, 0], // after which a payload is received apart from its header
    [2, 0],
    [3, FLAG.FUA],
  ] as const) {
    const payload = Buffer.alloc(LARGE.length, byte);
    expect(await client.request({ type: CMD.WRITE, flags, ...LARGE, payload })).toBe(0);
  }
  expect(await client.request({ type: CMD.READ, ...LARGE })).toBe(0);
  expect((await client.read(LARGE.length)).equals(Buffer.alloc(LARGE.length, 3))).toBe(true);
  expect(await client.request({ type: CMD.READ, offset: 8191n, length: 1 })).toBe(0);
  expect(await client.read(1)).toEqual(Buffer.alloc(1));
  const { stderr } = await server.stop();
  return [...stderr.matchAll(/error: (\w+ count.*)$/gm)].map(([, call]) => call as string);
}

const write = (flush: 0 | 1, mayCopy: 0 | 1) =>
  `pwrite count=131072 flush=${flush} may_copy=${mayCopy}`;

test("the plugin is called for small requests and durable writes, and may copy", async () => {
  const called = await calls([]);
  if (called[0] === write(0, 1)) called.shift(); // the first one's payload may come with its header
  expect(called.at(0)).toBe(write(1, 1));
  expect(called.at(-1)).toBe("pread count=1 may_copy=1");
  // The system may not tell what is in the page cache.
  expect(called.slice(1, -1).filter((call) => call !== "pread count=131072 may_copy=1")).toEqual(
    [],
  );
});

test("the plugin is called for writes that its file does not take", async () => {
  expect((await calls(["fd=append"])).slice(0, 3)).toEqual([write(0, 1), write(0, 1), write(1, 1)]);
});

test("the plugin may not copy on the thread that ends a delay", async () => {
  expect(await calls(["rdelay=1ms", "wdelay=1ms"], ["--filter=delay"])).toEqual([
    ...[write(0, 0), write(0, 0), write(1, 0)],
    ...["pread count=131072 may_copy=0", "pread count=1 may_copy=0"],
  ]);
});
