// retry and retry-request beside nbdkit's, in nbdkit: a plugin that is a script fails as nbdkit's own
// tests have it fail. Clients get the same answers, and the plugin the same calls, after the same
// times.

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { run } from "../support/command.js";
import { CMD, FLAG } from "../support/protocol.js";
import { RawClient, type RequestFields } from "../support/raw-client.js";
import {
  asyncnbd,
  debianPlugin,
  nbdkit,
  startServer,
  temporaryDirectory,
} from "../support/server.js";

const { READ, WRITE, FLUSH, TRIM, CACHE, WRITE_ZEROES: ZERO } = CMD;
const { FUA, NO_HOLE, FAST_ZERO } = FLAG;

const at = (type: number, offset: number, length = 512, flags = 0): RequestFields => ({
  type,
  flags,
  offset: BigInt(offset),
  length,
  ...(type === WRITE && { payload: Buffer.alloc(length, 7) }),
});
const read = (offset: number, length = 512): RequestFields => at(READ, offset, length);
const flush: RequestFields = { type: FLUSH };

/** `$opened`: how often it has been opened; `$n`: how often such a call has come. */
const SCRIPT = `#!/bin/bash
cd DIRECTORY
count() { read n 2>/dev/null < $1; n=$((n + 1)); echo $n > $1; }
case $1 in
  open) count opened; echo "open $2 $(date +%s%N)" >> calls ;;
  pread|pwrite|zero|trim|cache|flush) count $1; echo "$1 $3 $4 $5" >> calls ;;
  close) ;;
esac
read opened 2>/dev/null < opened
fail() { echo "EIO $1 failed" >&2; exit 1; }
BODY
case $1 in
  pread) head -c $3 /dev/zero ;;
  open|close|pwrite|zero|trim|cache|flush) ;;
  get_size) echo 1024 ;;
  can_write|can_flush|can_trim|can_zero|can_fast_zero) ;;
  can_cache|can_fua) echo native ;;
  *) exit 2 ;;
esac
`;

/** Waits are in seconds, as a machine under load measures them. */
async function seenWith(
  command: readonly string[],
  words: readonly string[],
  body: string,
  requests: readonly RequestFields[],
) {
  const directory = temporaryDirectory();
  const script = join(directory, "plugin");
  const text = SCRIPT.replace("DIRECTORY", directory).replace("BODY", () => body);
  writeFileSync(script, text, { mode: 0o755 });
  const server = await startServer([debianPlugin("sh"), script, ...words], {
    command,
    noProbe: true,
  });
  const client = await RawClient.connect(server.socket);
  const { flags } = await client.go();
  const errors: number[] = [];
  for (const request of requests) {
    const error = await client.request(request);
    if (error === 0 && request.type === READ) await client.read(request.length ?? 0);
    errors.push(error);
  }
  client.socket.end();
  await server.stop();
  const file = join(directory, "calls");
  const calls = existsSync(file) ? readFileSync(file, "utf8").trimEnd().split("\n") : [];
  const opened = calls.flatMap((call) => /^open \S+ (\d+)/.exec(call)?.[1] ?? []);
  const waits = opened.slice(1).map((time, i) => (Number(time) - Number(opened[i])) / 1e9);
  return { flags, errors, calls: calls.map((call) => call.replace(/ \d{19}$/, "")), waits };
}

async function expectSame(
  words: readonly string[],
  body: string,
  requests: readonly RequestFields[],
) {
  const [theirs, ours] = await Promise.all(
    [nbdkit, asyncnbd].map((command) => seenWith(command, words, body, requests)),
  );
  expect({ ...ours, waits: ours?.waits.map(Math.floor) }).toEqual({
    ...theirs,
    waits: theirs?.waits.map(Math.floor),
  });
  return ours as Awaited<ReturnType<typeof seenWith>>;
}

describe("retry", () => {
  const retry = (...words: string[]) => ["--filter=retry", "retry-delay=1", ...words];

  test("each delay is twice the one before", async () => {
    const { waits } = await expectSame(retry(), "[ $1 = pread ] && [ $n -le 3 ] && fail pread", [
      read(0),
      read(512),
    ]);
    expect(waits.map(Math.floor)).toEqual([1, 2, 4]);
  });

  test("or equal to it", async () => {
    const { waits } = await expectSame(
      retry("retry-exponential=no"),
      "[ $1 = pwrite ] && [ $n -le 3 ] && fail pwrite",
      [at(WRITE, 0), at(WRITE, 512, 512, FUA), flush],
    );
    expect(waits.map(Math.floor)).toEqual([1, 1, 1]);
  });

  test("without retries the plugin is not reopened", async () => {
    const { errors } = await expectSame(retry("retries=0"), "[ $1 = pread ] && fail pread", [
      read(0),
      read(512),
    ]);
    expect(errors).toEqual([5, 5]);
  });

  test("a failed opening counts as a retry", async () => {
    await expectSame(
      retry(),
      "[ $1 = pread ] && [ $n -le 2 ] && fail pread; [ $1 = open ] && [ $n = 2 ] && fail open",
      [read(0), read(512)],
    );
  });

  test("after a failed opening the next request opens again", async () => {
    const { errors } = await expectSame(
      retry("retries=1"),
      "[ $1 = pread ] && [ $n -le 2 ] && fail pread; [ $1 = open ] && [ $n = 2 ] && fail open",
      [read(0), read(512), read(0)],
    );
    expect(errors[0]).not.toBe(0);
  });

  test("with retry-readonly nothing is written after a failure", async () => {
    const { calls, errors } = await expectSame(
      retry("retry-readonly=yes"),
      "[ $1 = pwrite ] && fail pwrite",
      [at(WRITE, 0), at(WRITE, 0), at(ZERO, 0), at(TRIM, 0), read(0), flush],
    );
    expect(calls.filter((call) => call.startsWith("open"))).toEqual(["open false", "open true"]);
    expect(errors).toEqual([1, 1, 1, 1, 0, 0]);
  });

  test("a disk that has become smaller is not read past its end", async () => {
    await expectSame(
      retry(),
      "[ $1 = pread ] && [ $opened = 1 ] && fail early; [ $1$opened = get_size2 ] && { echo 512; exit; }",
      [read(0), at(CACHE, 512), read(512)],
    );
  });

  test("nor written past it, which finally is an error", async () => {
    const { errors } = await expectSame(
      retry("retries=1"),
      "[ $1 = pread ] && [ $opened = 1 ] && fail early; [ $1 = get_size ] && [ $opened -ge 2 ] && { echo 512; exit; }",
      [read(0), at(WRITE, 512), at(TRIM, 512), read(512), at(ZERO, 0)],
    );
    expect(errors).toEqual([0, 28, 28, 5, 0]);
  });

  test("FUA and fast zeroing may be lost", async () => {
    const { errors } = await expectSame(
      retry(),
      `[ $1 = zero ] && [ $n -le 1 ] && fail zero
[ $1 = can_fua ] && [ $opened = 2 -o $opened = 3 ] && { echo none; exit; }
[ $1 = can_fast_zero ] && [ $opened = 3 -o $opened = 4 ] && exit 3`,
      [at(ZERO, 0), at(ZERO, 0, 512, FUA | NO_HOLE | FAST_ZERO), at(ZERO, 0, 512, FUA)],
    );
    expect(errors).toEqual([0, 95, 0]);
  });

  test("fast zeroing that the plugin refuses is tried again", async () => {
    await expectSame(
      retry("retries=1"),
      '[ $1 = zero ] && [[ $5 = *fast* ]] && { echo "EOPNOTSUPP slow" >&2; exit 1; }',
      [at(ZERO, 0, 512, FAST_ZERO), at(ZERO, 0)],
    );
  });

  test("all capabilities may be lost", async () => {
    await expectSame(
      retry("retries=1"),
      `[ $1 = pread ] && [ $opened = 1 ] && fail early
case $1 in can_write|can_flush|can_trim|can_zero) [ $opened -ge 2 ] && exit 3 ;;
can_cache|can_fua) [ $opened -ge 2 ] && { echo none; exit; } ;; esac`,
      [read(0), at(WRITE, 0), at(ZERO, 0), at(TRIM, 0), at(CACHE, 0), flush, read(0)],
    );
  });

  test("extents begin anew with each try", async () => {
    const script = `#!/bin/bash
case $1 in
  get_size) echo 1024 ;;
  can_extents) ;;
  pread) head -c $3 /dev/zero ;;
  extents) n=$(cat fails 2>/dev/null); echo x$n > fails
    case $n in
      "") echo EIO broken >&2; exit 1 ;;
      x) echo garbage ;;
      *) echo 0 512 0; echo 512 512 3 ;;
    esac ;;
  open) echo open >> opens ;;
  *) exit 2 ;;
esac
`;
    const outputs = await Promise.all(
      [nbdkit, asyncnbd].map(async (command) => {
        const directory = temporaryDirectory();
        writeFileSync(join(directory, "sh"), script, { mode: 0o755 });
        const shell = `${command.join(" ")} -U - --filter=retry ${debianPlugin("sh")} ./sh retry-delay=1 \
--run 'nbdinfo --map "$uri"'; cat opens`;
        return (await run(["bash", "--norc", "-c", shell], { cwd: directory })).stdout;
      }),
    );
    expect(outputs[1]).toBe(outputs[0]);
    expect(outputs[1]).toContain("hole,zero");
  });
});

describe("retry-request", () => {
  const retry = (...words: string[]) => [
    "--filter=retry-request",
    "retry-request-delay=1",
    ...words,
  ];

  test("requests are tried again on what is open", async () => {
    const { errors } = await expectSame(
      retry(),
      "case $1 in pread|pwrite|zero|trim|cache|flush) [ $n -le 2 ] && fail $1 ;; esac",
      [read(0), at(WRITE, 0, 512, FUA), at(ZERO, 0), at(TRIM, 0), at(CACHE, 0), flush],
    );
    expect(errors).toEqual([0, 0, 0, 0, 0, 0]);
  });

  test("up to the limit", async () => {
    const { errors } = await expectSame(
      retry("retry-request-retries=1"),
      "[ $1 = pread ] && [ $n -le 2 ] && fail pread",
      [read(0), read(0)],
    );
    expect(errors).toEqual([5, 0]);
  });

  test("what cannot be opened is tried again", async () => {
    const { waits } = await expectSame(retry(), "[ $1 = open ] && [ $n -le 2 ] && fail open", [
      read(0),
    ]);
    expect(waits.map(Math.floor)).toEqual([1, 1]);
  });

  test("unless that is disabled", async () => {
    for (const command of [nbdkit, asyncnbd])
      await expect(
        seenWith(
          command,
          retry("retry-request-open=false"),
          "[ $1 = open ] && [ $n -le 2 ] && fail open",
          [],
        ),
      ).rejects.toThrow();
  });
});

test("wrong parameters are refused", async () => {
  for (const [filter, ...words] of [
    ["retry", "retry-delay=0"],
    ["retry", "retries=-1"],
    ["retry", "retry-exponential=perhaps"],
    ["retry-request", "retry-request-delay=0"],
    ["retry-request", "retry-request-retries=1001"],
  ])
    for (const command of [nbdkit, asyncnbd]) {
      const argv = [...command, "-U", "-", `--filter=${filter}`, "memory", "1M", ...words];
      const { status } = await run([...argv, "--run", "true"]);
      expect({ words, status }).toEqual({ words, status: 1 });
    }
});
