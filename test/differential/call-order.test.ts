// The same sessions with nbdkit and asyncnbd: the same callbacks in the same order with the same
// arguments, from load to unload, as a C plugin and scripts have logged them.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { NBD_REP_FLAG_ERROR } from "../../src/protocol.js";
import { MIB } from "../support/fixtures.js";
import { CMD, FLAG, INFO, OPT, REP } from "../support/protocol.js";
import { goData, RawClient, type RequestFields } from "../support/raw-client.js";
import {
  asyncnbd,
  debianPlugin,
  eventually,
  nbdkit,
  startServer,
  temporaryDirectory,
  testPlugin,
} from "../support/server.js";

const { EXPORT_NAME, ABORT, LIST, GO } = OPT;
const { FUA, NO_HOLE, FAST_ZERO } = FLAG;

/** Sends an option and reads its replies to the last one, whose type it returns. */
async function ask(client: RawClient, option: number, data?: Uint8Array): Promise<number> {
  client.sendOption(option, data);
  for (;;) {
    const { type } = await client.readOptionReply();
    if (type === REP.ACK || type >= NBD_REP_FLAG_ERROR) return type;
  }
}

type Session = (client: RawClient) => Promise<unknown>;

const go =
  (name: string, ...infos: number[]): Session =>
  (client) =>
    ask(client, GO, goData(name, infos));

/** One after the other, each awaited: the errors. */
async function requests(client: RawClient, list: readonly RequestFields[]): Promise<number[]> {
  const errors = [];
  for (const fields of list) {
    const error = await client.request(fields);
    if (fields.type === CMD.READ && error === 0) await client.read(fields.length ?? 0);
    errors.push(error);
  }
  return errors;
}

const range = { offset: 4096n, length: 8192 };
const payload = Buffer.alloc(8192, 3);
const WITHOUT_FAST_ZERO: readonly RequestFields[] = [
  { type: CMD.READ, ...range },
  { type: CMD.WRITE, ...range, payload },
  { type: CMD.WRITE, ...range, payload, flags: FUA },
  { type: CMD.FLUSH },
  { type: CMD.TRIM, ...range },
  { type: CMD.TRIM, ...range, flags: FUA },
  { type: CMD.CACHE, ...range },
  ...[0, FUA, NO_HOLE, FUA | NO_HOLE].map((flags) => ({ type: CMD.WRITE_ZEROES, ...range, flags })),
  { type: CMD.WRITE_ZEROES, offset: 0n, length: 40 * MIB, flags: FUA },
];
const EVERY_COMMAND: readonly RequestFields[] = [
  ...WITHOUT_FAST_ZERO,
  ...[0, NO_HOLE, FUA, FUA | NO_HOLE].map((flags) => ({
    type: CMD.WRITE_ZEROES,
    ...range,
    flags: flags | FAST_ZERO,
  })),
];

const withRequests =
  (session: Session, commands = EVERY_COMMAND): Session =>
  async (client) => {
    await session(client);
    return requests(client, commands);
  };

const SESSIONS: readonly [string, Session][] = [
  ["says nothing", async () => {}],
  ["aborts", (client) => ask(client, ABORT)],
  ["lists", (client) => ask(client, LIST)],
  ["asks about an export", (client) => ask(client, OPT.INFO, goData("one"))],
  ["asks about the default export", (client) => ask(client, OPT.INFO, goData(""))],
  [
    "asks for all information",
    (client) =>
      ask(client, OPT.INFO, goData("one", [INFO.NAME, INFO.DESCRIPTION, INFO.BLOCK_SIZE])),
  ],
  ["goes", go("one")],
  ["goes to the default export", go("")],
  ["goes with all information", go("", INFO.NAME, INFO.DESCRIPTION, INFO.BLOCK_SIZE)],
  [
    "lists, asks, asks again and goes",
    async (client) => [
      await ask(client, LIST),
      await ask(client, OPT.INFO, goData("one")),
      await ask(client, OPT.INFO, goData("", [INFO.BLOCK_SIZE])),
      await ask(client, GO, goData("two")),
    ],
  ],
  ["sends every command", withRequests(go("one"))],
  [
    "sends every command after NBD_OPT_EXPORT_NAME",
    withRequests(async (client) => {
      client.sendOption(EXPORT_NAME, Buffer.from("one"));
      await client.read(10);
    }),
  ],
];

interface Outcome {
  readonly result: unknown;
  readonly calls: readonly string[];
}

async function outcomeOf(
  command: readonly string[],
  plugin: readonly string[],
  log: string,
  session: Session,
  options: readonly string[],
): Promise<Outcome> {
  writeFileSync(log, "");
  const server = await startServer([...plugin], {
    command,
    options: ["-t", "1", ...options],
    noProbe: true,
  });
  const client = await RawClient.connect(server.socket);
  await client.greet();
  const result = await session(client);
  client.socket.end(); // nbdkit waits for its clients
  await client.closed();
  const logged = (): string[] => readFileSync(log, "utf8").trimEnd().split("\n");
  const count = (call: string): number =>
    logged().filter((line) => line.split(" ")[0] === call).length;
  // A signal between the end of its connection and close makes nbdkit forget close.
  await eventually("close", () => (count("close") === count("open") ? true : undefined));
  await server.stop();
  return { result, calls: logged() };
}

async function compare(
  plugin: (log: string) => readonly string[],
  session: Session,
  options: readonly string[] = [],
): Promise<void> {
  const log = join(temporaryDirectory(), "log");
  const theirs = await outcomeOf(nbdkit, plugin(log), log, session, options);
  const ours = await outcomeOf(asyncnbd, plugin(log), log, session, options);
  expect(ours).toEqual(theirs);
  expect(ours.calls.length).toBeGreaterThan(2);
}

describe("a C plugin's calls, when a client", () => {
  test.each(SESSIONS)("%s", async (_name, session) => {
    await compare((log) => [testPlugin("calllog"), `log=${log}`], session);
  });

  test.each(SESSIONS)("%s, read-only", async (_name, session) => {
    await compare((log) => [testPlugin("calllog"), `log=${log}`], session, ["-r"]);
  });
});

describe("a C plugin's calls for every command, with", () => {
  test.each([
    ["can_fua=0"],
    ["can_fua=1"],
    ["can_zero=0"],
    ["can_zero=0", "can_fua=1"],
    ["can_trim=0"],
    ["can_flush=0"],
    ["can_cache=0"],
    ["can_cache=1"],
    ["can_write=0"],
    ["errno=95"],
    ["errno=95", "can_fua=1"],
    ["errno=28"],
    ["can_multi_conn=0", "is_rotational=1", "can_extents=0"],
    ["thread_model=0"],
    ["thread_model=1"],
    ["thread_model=2"],
    ["can_write=-1"],
    ["can_fua=-1"],
    ["can_extents=-1"],
  ])("%s %s %s", async (...answers) => {
    const given = answers.filter((answer): answer is string => typeof answer === "string");
    const session: Session = async (client) => {
      const type = await ask(client, GO, goData("one"));
      return type === REP.ACK ? requests(client, EVERY_COMMAND) : type;
    };
    await compare((log) => [testPlugin("calllog"), `log=${log}`, ...given], session);
  });

  // A fast zero where none was offered ends nbdkit 1.32 by an assertion.
  test.each([["can_fast_zero=0"], ["can_fast_zero=0", "errno=95"]])("%s %s", async (...answers) => {
    const given = answers.filter((answer): answer is string => typeof answer === "string");
    const session = withRequests(go("one"), WITHOUT_FAST_ZERO);
    await compare((log) => [testPlugin("calllog"), `log=${log}`, ...given], session);
  });
});

describe("a C plugin's calls for every command, behind", () => {
  test.each([
    [["--filter=delay"], ["rdelay=1ms", "wdelay=1ms"]],
    [["--filter=delay"], ["delay-read=1ms", "delay-write=1ms", "delay-zero=1ms", "delay-trim=1ms"]],
    [["--filter=delay"], ["delay-cache=1ms", "delay-extents=1ms"]],
    [
      ["--filter=delay", "--filter=delay"],
      ["delay-open=1ms", "delay-close=1ms"],
    ],
  ])("%j %j", async (filters, parameters) => {
    const plugin = (log: string) => [testPlugin("calllog"), `log=${log}`, ...parameters];
    await compare(plugin, withRequests(go("one")), filters);
  });
});

describe("a C plugin's calls behind a filter, when a client", () => {
  test.each(SESSIONS.filter(([name]) => name.includes("information")))("%s", async (_, session) => {
    const plugin = (log: string) => [testPlugin("calllog"), `log=${log}`, "rdelay=1ms"];
    await compare(plugin, session, ["--filter=delay"]);
  });
});

describe("what reaches a C plugin behind", () => {
  const BLOCK = 65536;
  const block = (index: number) => ({
    offset: BigInt(index * BLOCK),
    length: BLOCK,
  });
  const full = Buffer.alloc(BLOCK, 5);
  /** A block at a time, without zeroes: nbdkit's cow writes those. */
  const BLOCKS: readonly RequestFields[] = [
    { type: CMD.READ, ...block(0) }, // from below
    { type: CMD.WRITE, offset: 100n, payload }, // the rest of the block comes from below
    { type: CMD.READ, ...block(0) },
    { type: CMD.WRITE, ...block(1), payload: full },
    { type: CMD.READ, ...block(1), length: 512 },
    { type: CMD.WRITE, ...block(2), payload: full, flags: FUA },
    { type: CMD.FLUSH },
    { type: CMD.CACHE, ...block(3) },
    { type: CMD.READ, ...block(3) },
    { type: CMD.READ, ...block(4) },
  ];

  /** Opening, requests and close, without the questions: ours asks them in a row of its own. */
  const isRequest = (call: string): boolean =>
    /^(open|close|pread|pwrite|flush|trim|zero|cache|extents) /.test(call);

  const expectSame = async (
    commands: readonly RequestFields[],
    parameters: readonly string[],
    theirs: readonly string[],
    ours: readonly string[] = theirs,
    session: Session = go("one"),
  ): Promise<void> => {
    const log = join(temporaryDirectory(), "log");
    const plugin = [testPlugin("calllog"), `log=${log}`, ...parameters];
    const asking = withRequests(session, commands);
    const [one, other] = [
      await outcomeOf(nbdkit, plugin, log, asking, theirs),
      await outcomeOf(asyncnbd, plugin, log, asking, ours),
    ].map(({ result, calls }) => ({ result, calls: calls.filter(isRequest) }));
    expect(other).toEqual(one);
    expect(other?.calls.length).toBeGreaterThan(2);
  };

  test.each([
    [["--filter=cow"], []],
    [["--filter=cow"], ["cow-on-read=true"]],
    [["--filter=cow"], ["cow-on-read=/nonexistent"]],
    [["--filter=cow"], ["cow-on-cache=true"]],
    [["--filter=cow", "--filter=delay"], ["rdelay=1ms"]],
    [["--filter=delay", "--filter=cow"], ["wdelay=1ms"]],
  ])("%j %j is the same", async (filters, parameters) => {
    await expectSame(BLOCKS, parameters, filters);
  });

  /** Not multiples of 4096 bytes, and longer than 32 MiB. */
  const ODD: readonly RequestFields[] = [
    { type: CMD.READ, offset: 1n, length: 1000 },
    { type: CMD.WRITE, offset: 513n, payload },
    { type: CMD.TRIM, offset: 7n, length: 5000 },
    { type: CMD.CACHE, offset: 9n, length: 9 },
    { type: CMD.WRITE_ZEROES, offset: 11n, length: 4096 },
    { type: CMD.READ, offset: 0n, length: 33 * MIB },
  ];

  test.each([
    [[], []],
    [["--filter=delay"], ["rdelay=1ms"]],
    [["--filter=stats"], ["statsfile=/dev/null"]],
  ])(
    "%j %j are the requests that break the block sizes the client was told",
    async (filters, parameters) => {
      const told = go("one", INFO.BLOCK_SIZE);
      await expectSame(ODD, ["block_size=4096", ...parameters], filters, filters, told);
    },
  );

  /** No two side by side that are written back: ours writes those at once. */
  const SINGLE_BLOCKS: readonly RequestFields[] = [
    { type: CMD.READ, ...block(0) },
    { type: CMD.WRITE, offset: 100n, payload }, // the rest of the block comes from below
    { type: CMD.READ, ...block(0) },
    { type: CMD.WRITE, ...block(2), payload: full },
    { type: CMD.READ, ...block(2), length: 512 },
    { type: CMD.WRITE, ...block(4), payload: full, flags: FUA },
    { type: CMD.FLUSH },
    { type: CMD.CACHE, ...block(6) },
    { type: CMD.READ, ...block(6) },
    { type: CMD.READ, ...block(8) },
    { type: CMD.READ, ...block(8) },
    { type: CMD.TRIM, ...block(2) },
    { type: CMD.WRITE_ZEROES, ...block(10) },
    { type: CMD.WRITE_ZEROES, ...block(12), length: 512, flags: FUA },
    { type: CMD.WRITE, ...block(14), payload: full },
    { type: CMD.FLUSH },
    { type: CMD.FLUSH },
  ];

  test.each([
    [],
    ["cache=writeback"],
    ["cache=writethrough"],
    ["cache=writethrough", "can_fua=1"],
    ["cache=unsafe"],
    ["cache-on-read=true"],
    ["cache-on-read=/nonexistent"],
    ["cache-on-read=/"],
    ["cache-max-size=1M"],
    ["cache-min-block-size=64K"],
  ])("a cache is the same with %j %j", async (...given) => {
    const parameters = given.filter((one): one is string => typeof one === "string");
    await expectSame(SINGLE_BLOCKS, parameters, ["--filter=cache"]);
  });

  test.each([[[]], [["--filter=delay"]]])(
    "readonly over %j is the same as with -r",
    async (filters) => {
      const reads = WITHOUT_FAST_ZERO.filter(
        ({ type }) => type === CMD.READ || type === CMD.CACHE || type === CMD.WRITE,
      );
      await expectSame(reads, [], ["-r", ...filters], ["--filter=readonly", ...filters]);
    },
  );
});

describe("a script's calls, when a client", () => {
  const scripts: readonly [string, (log: string) => readonly string[]][] = [
    [
      "sh",
      (log) => {
        const path = join(temporaryDirectory(), "disk.sh");
        const text = `#!/bin/sh
          case $1 in
            pwrite) cat >/dev/null ;;
          esac
          echo "$@" >> ${log}
          case $1 in
            list_exports) echo NAMES; echo one ;;
            default_export) echo the-default ;;
            open) echo handle ;;
            get_size) echo ${64 * MIB} ;;
            pread) head -c "$3" /dev/zero ;;
            pwrite|flush|trim|zero|cache|can_write|can_flush|can_trim|can_zero) ;;
            can_fast_zero|can_extents) ;;
            can_fua) echo native ;;
            *) exit 2 ;;
          esac`;
        writeFileSync(path, text, { mode: 0o755 });
        return [debianPlugin("sh"), path];
      },
    ],
    [
      "eval",
      (log) => [
        debianPlugin("eval"),
        ...[
          ...["get_ready", "after_fork", "preconnect", "list_exports", "default_export"],
          ...["open", "get_size", "can_write", "can_flush", "can_fast_zero", "can_zero", "close"],
          ...["pread", "pwrite", "flush", "zero"],
        ].map((callback) => {
          const answer: Record<string, string> = {
            get_size: `echo ${64 * MIB}`,
            open: "echo handle",
            pwrite: "cat >/dev/null",
            pread: 'head -c "$3" /dev/zero',
          };
          return `${callback}=echo ${callback} "$@" >> ${log}; ${answer[callback] ?? ":"}`;
        }),
      ],
    ],
  ];
  const cases = scripts.flatMap(([name, plugin]) =>
    SESSIONS.filter(([title]) => !title.startsWith("sends every command after")).map(
      ([title, session]) => [title, name, plugin, session] as const,
    ),
  );
  test.each(cases)("%s (%s)", async (_title, _name, plugin, session) => {
    let make: readonly string[] | undefined; // the same script for both: its path is in the log
    await compare((log) => {
      make ??= plugin(log);
      return make;
    }, session);
  });
});
