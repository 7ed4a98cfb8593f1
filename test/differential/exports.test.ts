// The same plugins under nbdkit and asyncnbd: the same size, flags, names and refusals.

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { isDeepStrictEqual } from "node:util";
import { describe, expect, test } from "vitest";
import { run } from "../support/command.js";
import { writePattern } from "../support/fixtures.js";
import { EXPORT_FLAG } from "../support/protocol.js";
import { RawClient } from "../support/raw-client.js";
import {
  asyncnbd,
  debianPlugin,
  nbdkit,
  type RunningServer,
  startServer,
  temporaryDirectory,
  testPlugin,
} from "../support/server.js";
import { EXPORT_DIFFERENCES } from "./allow-list.js";

type Facts = Record<string, unknown>;

const { SEND_DF } = EXPORT_FLAG;

/** Plugins that ship with asyncnbd, in the build that users get. */
const shippedPlugin = (name: string): string =>
  fileURLToPath(new URL(`../../build/Release/nbdkit-${name}-plugin.so`, import.meta.url));

/** Both servers with the same plugin: first nbdkit, then asyncnbd. */
function startBoth(
  plugin: readonly string[],
  options: readonly string[] = [],
): Promise<[RunningServer, RunningServer]> {
  return Promise.all([
    startServer(plugin, { command: nbdkit, options }),
    startServer(plugin, { command: asyncnbd, options }),
  ]);
}

const stopAll = (servers: readonly RunningServer[]) => Promise.all(servers.map((s) => s.stop()));

const uriOf = (server: RunningServer, exportName: string): string =>
  `nbd+unix:///${encodeURIComponent(exportName)}?socket=${server.socket}`;

/** What nbdinfo says of one export, or of all; only the status if it fails. */
async function nbdinfo(uri: string, ...options: string[]): Promise<[number, Facts[]]> {
  const { status, stdout } = await run(["nbdinfo", "--json", ...options, uri]);
  return [status, status === 0 ? JSON.parse(stdout).exports : []];
}

const withoutUri = ({ uri: _uri, ...facts }: Facts): Facts => facts;

/** What asyncnbd must say where nbdkit says that: the same, but for the allow-list. */
function expectedOf(theirs: Facts): Facts {
  const expected = withoutUri(theirs);
  for (const [field, { nbdkit, asyncnbd }] of Object.entries(EXPORT_DIFFERENCES))
    if (isDeepStrictEqual(theirs[field], nbdkit)) expected[field] = asyncnbd;
  return expected;
}

/** Asks both servers for one export, or with --list for all of them. */
async function expectSameInfo(
  servers: readonly RunningServer[],
  exportName: string,
  ...options: string[]
): Promise<void> {
  const [theirs, ours] = await Promise.all(
    servers.map((server) => nbdinfo(uriOf(server, exportName), ...options)),
  );
  const expected = [exportName, theirs?.[0], theirs?.[1].map(expectedOf)];
  expect([exportName, ours?.[0], ours?.[1].map(withoutUri)]).toEqual(expected);
}

async function expectSame(
  plugin: readonly string[],
  options: readonly string[] = [],
): Promise<void> {
  const servers = await startBoth(plugin, options);
  await expectSameInfo(servers, "");
  await expectSameInfo(servers, "", "--list");
  await stopAll(servers);
}

/** An image that is no whole number of sectors, for the file plugins. */
function image(): string {
  const path = join(temporaryDirectory(), "disk.img");
  writePattern(path, (1 << 20) + 100);
  return path;
}

function script(text: string): string {
  const path = join(temporaryDirectory(), "disk.sh");
  writeFileSync(path, `case "$1" in\n${text}\n*) exit 2 ;;\nesac`, { mode: 0o755 });
  return path;
}

const BASE = "get_size) echo 1M ;;\npread) exit 0 ;;";

/** The first match wins, so that an answer can replace one of the base. */
const shell = (answers: string): string[] => [debianPlugin("sh"), script(`${answers}\n${BASE}`)];

const PLUGINS: [string, () => string[]][] = [
  ["nbdkit's memory", () => [debianPlugin("memory"), "1M"]],
  ["nbdkit's null", () => [debianPlugin("null"), "1M"]],
  ["nbdkit's file", () => [debianPlugin("file"), image()]],
  ["nbdkit's pattern", () => [debianPlugin("pattern"), "1M"]],
  ["nbdkit's data", () => [debianPlugin("data"), "1 2 3"]],
  ["nbdkit's zero", () => [debianPlugin("zero")]],
  ["nbdkit's full", () => [debianPlugin("full"), "1M"]],
  ["nbdkit's random", () => [debianPlugin("random"), "1M", "seed=1"]],
  ["nbdkit's sh", () => shell("can_write|can_flush|can_trim|can_zero) exit 0 ;;")],
  ["our memory", () => [shippedPlugin("memory"), "1M"]],
  ["our null", () => [shippedPlugin("null"), "1M"]],
  ["our file", () => [shippedPlugin("file"), image()]],
  ["an empty disk", () => [debianPlugin("null"), "0"]],
  ["the largest disk", () => [debianPlugin("null"), "9223372036854775807"]],
  ["a version 1 plugin", () => [testPlugin("version1")]],
  ["a plugin that fails to open", () => [testPlugin("probe"), "fail=open"]],
  ["a plugin without a default export", () => [testPlugin("probe"), "fail=default_export"]],
];

describe.each([
  ["writable", []],
  ["read-only", ["-r"]],
])("a %s export", (_name, options) => {
  test.each(PLUGINS)("of %s is the same", async (_plugin, make) => {
    await expectSame(make(), options);
  });

  test.each(["file", "memory", "null"])(
    "of %s is the same from nbdkit's plugin under nbdkit and from ours under asyncnbd",
    async (name) => {
      const parameter = name === "file" ? image() : "1M";
      const servers = await Promise.all([
        startServer([debianPlugin(name), parameter], { command: nbdkit, options }),
        startServer([name, parameter], { command: asyncnbd, options }),
      ]);
      await expectSameInfo(servers, "");
      await stopAll(servers);
    },
  );
});

test.each([
  ["nbdkit's", debianPlugin("file")],
  ["our", shippedPlugin("file")],
])("every file of a directory is the same export of %s file plugin", async (_whose, plugin) => {
  const directory = temporaryDirectory();
  writePattern(join(directory, "a.img"), 512);
  writePattern(join(directory, "b with ü.img"), 1024);
  mkdirSync(join(directory, "no file"));
  const servers = await startBoth([plugin, `dir=${directory}`]);
  for (const name of ["a.img", "b with ü.img", "no file", "missing", "", "../x", "a.img/"])
    await expectSameInfo(servers, name);
  await expectSameInfo(servers, "", "--list");
  await stopAll(servers);
});

test("nbdinfo's fields differ as the allow-list says", async () => {
  const servers = await startBoth([debianPlugin("memory"), "1M"]);
  const [theirs, ours] = await Promise.all(servers.map(({ uri }) => nbdinfo(uri)));
  for (const [field, difference] of Object.entries(EXPORT_DIFFERENCES)) {
    expect([field, theirs?.[1][0]?.[field]]).toEqual([field, difference.nbdkit]);
    expect([field, ours?.[1][0]?.[field]]).toEqual([field, difference.asyncnbd]);
  }
  await stopAll(servers);
});

describe("a script's answers about its exports", () => {
  test.each([
    ["no answer", ""],
    ["a list of names", "list_exports) echo NAMES; echo a; echo 'b c'; echo '' ;;"],
    ["a plain list", "list_exports) echo a; echo b ;;"],
    ["an interleaved list", "list_exports) echo INTERLEAVED; echo a; echo first; echo b ;;"],
    ["an empty list", "list_exports) exit 0 ;;"],
    [
      "described exports",
      "list_exports) echo NAMES+DESCRIPTIONS; echo a; echo first ;;\n" +
        "export_description) echo text ;;",
    ],
    ["no such list", "list_exports) exit 2 ;;"],
    ["a list that fails", "list_exports) echo EIO no >&2; exit 1 ;;"],
    ["a list that is false", "list_exports) exit 3 ;;"],
    ["a default export", 'default_export) echo canonical ;;\nopen) echo "$3" ;;'],
    ["a default export in the list", "default_export) echo d ;;\nlist_exports) echo a ;;"],
    ["an empty default export", "default_export) exit 0 ;;"],
    ["a default export that fails", "default_export) exit 1 ;;"],
    ["a default export that is false", "default_export) exit 3 ;;"],
    ["a description", "export_description) echo 'a disk of ü' ;;"],
    ["a description that fails", "export_description) exit 1 ;;"],
    ["preconnect that fails", 'preconnect) [ -n "$NEVER" ] || exit 1 ;;'],
    ["multi-conn but one connection at a time", "thread_model) echo serialize_connections ;;"],
    ["a thread model of its own", "thread_model) echo parallel ;;\ncan_multi_conn) exit 0 ;;"],
  ])("give the same for %s", async (_name, answers) => {
    await expectSame(shell(answers));
  });
});

/** Callbacks, the letter that stands for each in an export's name, and what each may answer. */
const CALLBACKS: [callback: string, letter: string, answers: string][] = [
  ["can_write", "w", "0123"],
  ["can_flush", "f", "0123"],
  ["can_trim", "t", "0123"],
  ["can_zero", "z", "0123"],
  ["can_fast_zero", "q", "0123"],
  ["can_fua", "u", "0123nem"],
  ["can_cache", "c", "0123nem"],
  ["can_multi_conn", "m", "0123"],
  ["is_rotational", "r", "0123"],
  ["can_extents", "x", "0123"],
];

const SIZES = ["1M", "0", "1", "huge", "-1", "8E", "9223372036854775807", "1 2", ""];
const BLOCK_SIZES = [
  ...["1 4K 64M", "512 4K 1M", "1 512 0xffffffff", "64K 64K 64K", "1 1 1", "0 0 0", "0 4K 1M"],
  ...["3 4096 1M", "512 1000 1M", "512 4K 1000", "4K 512 1M", "128K 128K 1M", "512 4K", "huge", ""],
];

/**
 * A script whose answers are in the export's name: a letter and its answer. 0 to 3 are exit
 * statuses; n, e and m are the words native, emulate and one that means nothing.
 */
function answeringScript(): string[] {
  const cases = CALLBACKS.map(([callback, letter]) => `${callback}) answer ${letter} "$2" ;;`);
  const path = join(temporaryDirectory(), "disk.sh");
  const text = `answer() {
      case $2 in
        *$1"0"*) case $1 in [uc]) echo none ;; esac; exit 0 ;;
        *$1"1"*) echo EIO no >&2; exit 1 ;;
        *$1"3"*) exit 3 ;;
        *$1"n"*) echo native; exit 0 ;;
        *$1"e"*) echo emulate; exit 0 ;;
        *$1"m"*) echo maybe; exit 0 ;;
        *) exit 2 ;;
      esac
    }
    case $1 in
      open) case $3 in fails) echo EPERM no >&2; exit 1 ;; esac; echo "$3" ;;
      get_size) case $2 in size=*) echo "\${2#size=}" ;; *) echo 1M ;; esac ;;
      block_size) case $2 in block=*) echo "\${2#block=}" ;; *) exit 2 ;; esac ;;
      pread) exit 0 ;;
      ${cases.join("\n")}
      *) exit 2 ;;
    esac`;
  writeFileSync(path, text, { mode: 0o755 });
  return [debianPlugin("sh"), path];
}

/**
 * Every choice of callbacks that say yes, the others being absent; every second one with
 * can_multi_conn, on which no other depends.
 */
function subsets(): string[] {
  const yes = ["w0", "f0", "t0", "z0", "q0", "un", "cn"];
  return Array.from({ length: 1 << yes.length }, (_, bits) => {
    const chosen = yes.filter((_answer, i) => bits & (1 << i));
    return (chosen.length % 2 === 0 ? chosen : [...chosen, "m0"]).join("");
  });
}

/** Every answer of every callback: alone, and on an export that can be written. */
function singleAnswers(): string[] {
  return CALLBACKS.flatMap(([, letter, answers]) =>
    [...answers].flatMap((answer) =>
      letter === "w" ? [`w${answer}`] : [`${letter}${answer}`, `w0${letter}${answer}`],
    ),
  );
}

/** Every answer of every callback, where all others say yes. */
function answersAmongYes(): string[] {
  return CALLBACKS.flatMap(([, letter, answers]) => {
    const others = CALLBACKS.filter(([, other]) => other !== letter);
    const yes = others.map(([, other]) => (/[uc]/.test(other) ? `${other}n` : `${other}0`));
    return [...answers].map((answer) => `${letter}${answer}${yes.join("")}`);
  });
}

/** Size and transmission flags of an export, or how the server refuses it. */
async function outcomeOf(server: RunningServer, name: string): Promise<string> {
  const client = await RawClient.connect(server.socket);
  try {
    const { sizeBytes, flags } = await client.go(name);
    await client.leave();
    return `${name}: ${sizeBytes} bytes, flags 0x${(flags & ~SEND_DF).toString(16)}`;
  } catch (error) {
    client.socket.destroy();
    const refusal = /was refused: 0x[0-9a-f]+|server closed/.exec((error as Error).message)?.[0];
    if (refusal === undefined) throw error;
    return `${name}: ${refusal}`;
  }
}

async function outcomesOf(server: RunningServer, names: readonly string[]): Promise<string[]> {
  const outcomes = [];
  for (const name of names) outcomes.push(await outcomeOf(server, name));
  return outcomes;
}

describe("a script's answers about one export", () => {
  test.each([
    ["every subset of callbacks that say yes", [], subsets],
    ["every answer of every callback", [], singleAnswers],
    ["every answer where all others say yes, with -r", ["-r"], answersAmongYes],
    ["every answer where all others say yes", [], answersAmongYes],
    ["every size, and a failing open", [], () => [...SIZES.map((s) => `size=${s}`), "fails"]],
  ])("cause the same flags and refusals: %s", async (_name, options, names) => {
    const servers = await startBoth(answeringScript(), options);
    const [theirs, ours] = await Promise.all(servers.map((s) => outcomesOf(s, names())));
    expect(ours).toEqual(theirs);
    await stopAll(servers);
  });

  test("cause the same block sizes and refusals", async () => {
    const servers = await startBoth(answeringScript());
    for (const sizes of BLOCK_SIZES) await expectSameInfo(servers, `block=${sizes}`);
    await stopAll(servers);
  });
});
