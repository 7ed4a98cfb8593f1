// What a plugin says of a failure, and where it was, comes to clients with structured replies through
// native filters and middleware in any order.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { CMD, ERRNO } from "../support/protocol.js";
import { startServer, temporaryDirectory } from "../support/server.js";
import { StrictClient, type StrictReply } from "../support/strict-client.js";

function file(name: string, text: string): string {
  const path = join(temporaryDirectory(), name);
  writeFileSync(path, text, { mode: 0o755 });
  return path;
}

/** Fails all reads and writes: in C, by way of a script, and in TypeScript. */
const inC = (): readonly string[] => [
  "sh",
  file(
    "failing.sh",
    `#!/bin/sh
     case $1 in
       get_size) echo 1M ;;
       can_write) exit 0 ;;
       pread) echo "ENOSPC no room at $4" >&2; exit 1 ;;
       pwrite) cat >/dev/null; echo "EPERM sealed at $4" >&2; exit 1 ;;
       *) exit 2 ;;
     esac`,
  ),
];
const inTypeScript = (): readonly string[] => [
  file(
    "failing.ts",
    `import { definePlugin, failure } from "asyncnbd";
     const fail = (code: string, words: string, offset: number): never => {
       throw Object.assign(failure(code, words + " at " + offset), { offset: offset + 8 });
     };
     export default definePlugin({
       name: "failing",
       getSize: () => 2 ** 20,
       async pread(_h, buf, offset) { fail("ENOSPC", "no room", offset); },
       pwrite: (_h, buf, offset) => fail("EPERM", "sealed", offset),
     });`,
  ),
];

/** Middleware that looks, and may answer later. */
const looking = (): string =>
  `--filter=${file(
    "looking.ts",
    `import { wrapRequests } from "asyncnbd/middleware";
     export default wrapRequests("looking", (call) => call.next());`,
  )}`;

const STACKS: readonly [string, () => readonly string[]][] = [
  ["middleware", () => [looking()]],
  ["delay", () => ["--filter=delay"]],
  ["middleware over delay", () => [looking(), "--filter=delay"]],
  ["delay over middleware", () => ["--filter=delay", looking()]],
  ["three of each", () => Array.from({ length: 3 }, () => [looking(), "--filter=delay"]).flat()],
];

async function failures(args: readonly string[]): Promise<StrictReply[]> {
  const server = await startServer([...args]);
  const client = await StrictClient.connect(server.socket, { style: "structured" });
  const payload = Buffer.alloc(512, 1);
  const replies = await client.requests(
    { type: CMD.READ, offset: 4096n, length: 512 },
    { type: CMD.WRITE, offset: 8192n, payload },
  );
  await client.disconnect();
  await server.stop();
  return replies;
}

describe.each(STACKS)("through %s", (_name, layers) => {
  test("clients get the error messages of a plugin in C", async () => {
    const [read, written] = await failures([...layers(), ...inC()]);
    expect(read).toMatchObject({ error: ERRNO.ENOSPC });
    expect(read?.errorText).toContain("no room at 4096");
    expect(written).toMatchObject({ error: ERRNO.EPERM });
    expect(written?.errorText).toContain("sealed at 8192");
  });

  test("clients get the error messages and offsets of a plugin in TypeScript", async () => {
    const [read, written] = await failures([...layers(), ...inTypeScript()]);
    expect(read).toMatchObject({
      error: ERRNO.ENOSPC,
      errorText: "no room at 4096",
      errorOffset: 4104n,
    });
    expect(written).toMatchObject({
      error: ERRNO.EPERM,
      errorText: "sealed at 8192",
      errorOffset: 8200n,
    });
  });
});

test("behind cow, a failure outside the requested range has a message and no offset", async () => {
  const [read, written] = await failures(["--filter=cow", looking(), ...inTypeScript()]);
  expect(read).toMatchObject({ error: ERRNO.ENOSPC, errorText: "no room at 4096" });
  // It is reading the rest of the block that fails.
  expect(written).toMatchObject({ error: ERRNO.ENOSPC, errorOffset: undefined });
  expect(written?.errorText).toMatch(/^no room at \d+$/);
});

describe("middleware that makes a mistake fails only its request", () => {
  const wrong = (body: string): string =>
    `--filter=${file(
      "wrong.ts",
      `import { defineMiddleware } from "asyncnbd/middleware";
       export default defineMiddleware({
         name: "wrong",
         async open(next: any, info) { const disk = await next(info); return { ...disk, ${body} }; },
       });`,
    )}`;

  test.each([
    ["reads beyond the end", "read: (b, o, r) => disk.read(b, o + 2 ** 20, r)"],
    ["reads before the start", "read: (b, o, r) => disk.read(b, o - 2 ** 20, r)"],
    ["reads without a buffer", "read: (b, o, r) => disk.read(undefined, o, r)"],
    ["asks for what there is not", 'read: (b, o, r) => disk.status("x:y", b.length, o, r)'],
    ["throws what is no error", "read() { throw undefined; }"],
    ["returns what rejects twice", "read: () => ({ then(_, no) { no(new Error()); no(1); } })"],
  ])("%s", async (_what, body) => {
    for (const plugin of [
      ["null", "1M"],
      ["--filter=delay", "null", "1M"],
    ]) {
      const server = await startServer([wrong(body), ...plugin]);
      const client = await StrictClient.connect(server.socket, { style: "structured" });
      const { error } = await client.request({ type: CMD.READ, offset: 0n, length: 512 });
      expect([ERRNO.EIO, ERRNO.EINVAL]).toContain(error);
      expect(
        (await client.request({ type: CMD.WRITE, offset: 0n, payload: Buffer.alloc(8) })).error,
      ).toBe(0);
      await client.disconnect();
      await server.stop();
    }
  });

  test.each([
    ["returns nothing", "open: () => undefined", "middleware wrong: open returned no export"],
    ["returns what has no read", "open: () => ({ facts: {} })", "an export without read"],
    [
      "invents facts",
      "async open(next: any, info) { const disk = await next(info); return { ...disk, facts: { ...disk.facts, sizeBytes: -1 } }; }",
      "middleware wrong: sizeBytes is -1",
    ],
    [
      "says that zero is perhaps possible",
      "async open(next: any, info) { const disk = await next(info); return { ...disk, facts: { ...disk.facts, zero: true } }; }",
      'middleware wrong: zero is true: use "none", "emulate" or "native"',
    ],
  ])("%s: the client is refused with a message", async (_what, open, words) => {
    const path = file(
      "wrong.ts",
      `import { defineMiddleware } from "asyncnbd/middleware";
       export default defineMiddleware({ name: "wrong", ${open} } as any);`,
    );
    const server = await startServer([`--filter=${path}`, "null", "1M"], { noProbe: true });
    await expect(StrictClient.connect(server.socket)).rejects.toThrow("NBD_OPT_GO");
    const { stderr } = await server.stop();
    expect(stderr).toContain(words);
  });
});
