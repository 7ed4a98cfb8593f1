// What the documentation shows works: its commands are run as they are written, its programs and
// plugins are compiled, and run where they are whole. A block of code that is new needs a decision
// in this table.

import { spawn } from "node:child_process";
import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, onTestFinished, test } from "vitest";
import { Authority } from "../support/certificates.js";
import { runOk } from "../support/command.js";
import { type Block, blocksOf, commandsOf, DOCUMENTS, indentedCode } from "../support/documents.js";
import { MIB, patternBytes } from "../support/fixtures.js";
import { Sandbox } from "../support/sandbox.js";
import { eventually, sanitizer, temporaryDirectory } from "../support/server.js";

const root = fileURLToPath(new URL("../../", import.meta.url));

type Decision =
  /** Run after those with a lower number. */
  | { readonly commands: number }
  /** TypeScript: the file it is. */
  | { readonly module: string }
  /** A part of one: what it takes to be whole, before it and in place of parts of it. */
  | { readonly part: string; readonly of: "ts" | "c"; readonly with?: readonly [string, string] }
  | { readonly elsewhere: string };

const PLUGIN_IN_C = `
#define NBDKIT_API_VERSION 2
#include <string.h>
#include <nbdkit-plugin.h>
#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL
struct handle { int fd; };
static char disk[512];
static void *mine_open (int readonly) { (void) readonly; return disk; }
static int64_t mine_get_size (void *handle) { (void) handle; return sizeof disk; }
static int mine_pread (void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{ (void) handle, (void) flags; memcpy (buf, disk + offset, count); return 0; }
`;
const inC: Decision = { part: PLUGIN_IN_C, of: "c" };

/** By the document and how the block begins. */
const DECISIONS: Readonly<Record<string, Decision>> = {
  "README.md: $ asyncnbd -U disk.sock": { commands: 1 },
  "README.md: $ scripts/demo": { elsewhere: "a step of .ci/run" },
  "README.md: $ scripts/test": { elsewhere: "a step of .ci/run, and what runs this" },
  "README.md: import { definePlugin }": { module: "my-disk.ts" },
  "README.md: $ cc ": { commands: 2 },
  "docs/async-plugins.md: #define": {
    of: "c",
    part: `
#include <stdbool.h>
#include <stdint.h>
static int store_read (void *handle, void *buf, uint32_t count, uint64_t offset, void *conn,
                       uint64_t reqid)
{ (void) handle, (void) buf, (void) count, (void) offset, (void) conn, (void) reqid; return 0; }
`,
  },
  "docs/c-plugins.md: $ cc ": { commands: 1 },
  "docs/c-plugins.md: static const void *mine_lend": {
    ...{ part: PLUGIN_IN_C, of: "c" },
    with: ["...", '.name = "mine", .open = mine_open, .get_size = mine_get_size,'],
  },
  "docs/c-plugins.md: struct disk": {
    ...{ part: PLUGIN_IN_C, of: "c" },
    with: ["...", '.name = "mine", .open = mine_open, .config = mine_config,'],
  },
  "docs/c-plugins.md: static void *mine_place": inC,
  "docs/c-plugins.md: static int mine_read_fd": inC,
  "docs/c-plugins.md: static int mine_write_fd": inC,
  "docs/c-plugins.md: $ export PKG": { commands: 2 },
  "docs/client.md: import { connect }": { module: "client.ts" },
  "docs/client-command.md: $ asyncnbd -U disk.sock": { elsewhere: "client-command.test.ts" },
  "docs/command.md: $ asyncnbd --completion": { elsewhere: "completion.test.ts" },
  "docs/filters.md: $ asyncnbd --filter=cow": { commands: 1 },
  "docs/filters.md: $ asyncnbd --filter=openonce": { elsewhere: "openonce.test.ts" },
  "docs/filters.md: $ asyncnbd --filter=swab": { commands: 3 },
  "docs/filters.md: $ asyncnbd --filter=offset": { commands: 8 },
  "docs/filters.md: $ cc ": { commands: 4 },
  "docs/filters.md: $ asyncnbd --filter=error": { commands: 5 },
  "docs/filters.md: $ asyncnbd --filter=log": { commands: 6 },
  "docs/filters.md: 2026-08-06": {
    elsewhere: "compared with nbdkit in differential/filters.test.ts",
  },
  "docs/filters.md: $ asyncnbd --filter=rate": { commands: 7 },
  "docs/filters.md: $ asyncnbd --filter=retry": { commands: 10 },
  "docs/filters.md: $ asyncnbd --filter=stats": { commands: 9 },
  "docs/filters.md: $ asyncnbd --filter=blocksize": { commands: 10 },
  "docs/filters.md: $ printf": { commands: 11 },
  "docs/filters.md: $ asyncnbd --filter=partition": { commands: 12 },
  "docs/filters.md: $ asyncnbd --filter=readahead": { commands: 13 },
  "docs/filters.md: $ asyncnbd --filter=ip": { commands: 10 },
  "docs/filters.md: $ asyncnbd --filter=protect": { commands: 11 },
  "docs/filters.md: import { defineFilter,": { module: "office-hours.ts" },
  "docs/filters.md: $ asyncnbd --filter=./office-hours.ts": { commands: 2 },
  "docs/plugins.md: $ asyncnbd memory": { commands: 1 },
  "docs/plugins.md: $ asyncnbd file": { commands: 2 },
  "docs/plugins.md: $ asyncnbd async-file": { commands: 3 },
  "docs/plugins.md: $ asyncnbd null": { commands: 4 },
  "docs/plugins.md: $ asyncnbd delay-memory": { commands: 5 },
  "docs/plugins.md: $ asyncnbd --filter=cow http": { commands: 6 },
  "docs/plugins.md: $ asyncnbd ram": { commands: 7 },
  "docs/service.md: $ units": { elsewhere: "systemd.test.ts" },
  "docs/service.md: $ sudo mkdir": { elsewhere: "systemd.test.ts" },
  "docs/service.md: $ echo": { elsewhere: "systemd.test.ts" },
  "docs/protocol.md: export default definePlugin": {
    of: "ts",
    part: `
import { definePlugin, type Status } from "asyncnbd";
declare const it: Record<"changes" | "ages", (offset: number, count: number) => Status[]>;
`,
    with: ["// …", 'name: "mine", open: () => it, getSize: () => 512, pread() {},'],
  },
  "docs/releasing.md: $ scripts/release\n": { elsewhere: "it takes minutes" },
  "docs/releasing.md: $ scripts/release v": { elsewhere: "it takes minutes, twice" },
  "docs/tls.md: $ asyncnbd --tls=require": { commands: 2 },
  "docs/tls.md: $ openssl": { commands: 1 },
  "docs/tls.md: $ mkdir": { commands: 3 },
  "docs/tls.md: const server": { part: 'import { serve } from "asyncnbd";\n', of: "ts" },
  "docs/typescript-plugins.md: import { definePlugin }": { module: "my-disk.ts" },
  "docs/typescript-plugins.md: $ asyncnbd --help": { commands: 1 },
  "docs/typescript-plugins.md: import { serve }": { module: "program.ts" },
  "docs/typescript-plugins.md: import { defineMiddleware }": { module: "inverted.ts" },
  "docs/typescript-plugins.md: import { log, retry }": {
    ...{ part: 'import myDisk from "./my-disk.js";\n', of: "ts" },
  },
};

/** What commands find in place of what a test has not, or must not touch. */
const HOSTS = ["example.com", "server.example.com"];
const SUBSTITUTES: readonly (readonly [RegExp, string])[] = [
  [/\/etc\/nbd/g, "$PWD/nbd"], // nothing is written there
  [/'(nbds:\S*\$PWD\S*)'/g, '"$1"'], // so that it is replaced
  [/^nbd-client .*/, "true"], // the kernel may have no such module
];

const blocks: readonly Block[] = DOCUMENTS.flatMap(blocksOf);
const keysOf = ({ file, text }: Block): string[] =>
  Object.keys(DECISIONS).filter((key) => `${file}: ${text}`.startsWith(key));
const decisionOf = (block: Block): Decision => DECISIONS[keysOf(block)[0] ?? ""] as Decision;

test("each block of code has one decision, and each decision a block", () => {
  for (const block of blocks) expect(keysOf(block), `${block.file}: ${block.text}`).toHaveLength(1);
  expect(new Set(blocks.flatMap(keysOf))).toEqual(new Set(Object.keys(DECISIONS)));
});

test("no code is marked by indentation alone", () => {
  expect(DOCUMENTS.flatMap(indentedCode)).toEqual([]);
});

/** Modules of TypeScript that documents have, by their paths: a folder for each document. */
function modulesOf(file: string): [string, string][] {
  return blocksOf(file).flatMap((block, i): [string, string][] => {
    const decision = decisionOf(block);
    if ("module" in decision) return [[decision.module, block.text]];
    if (!("of" in decision) || decision.of !== "ts") return [];
    return [[`part${i}.ts`, whole(decision, block.text)]];
  });
}

const whole = (decision: Extract<Decision, { part: string }>, text: string): string =>
  decision.part + (decision.with === undefined ? text : text.replace(...decision.with));

describe.skipIf(sanitizer !== undefined)("the documentation", () => {
  const withCommands = DOCUMENTS.filter((file) =>
    blocksOf(file).some((block) => "commands" in decisionOf(block)),
  );

  test.each(withCommands)("of %s has commands that do what they say", async (file) => {
    const authority = new Authority();
    const sandbox = await Sandbox.make(HOSTS, { NODE_EXTRA_CA_CERTS: authority.caCertificate });
    await furnish(sandbox, file, authority);
    const numbered = blocksOf(file).flatMap((block) => {
      const decision = decisionOf(block);
      return "commands" in decision ? [{ block, number: decision.commands }] : [];
    });
    for (const { block } of numbered.sort((a, b) => a.number - b.number)) {
      for (const written of commandsOf(block)) {
        const command = SUBSTITUTES.reduce((text, pair) => text.replace(...pair), written);
        if (/^asyncnbd/.test(command)) await sandbox.stopServers();
        await sandbox.run(command);
      }
      await sandbox.stopServers();
      if (file === "docs/tls.md") useCertificates(sandbox);
    }
  });

  test("has plugins, filters and programs in TypeScript that compile, and a program that runs", async () => {
    const project = temporaryDirectory();
    const modules = join(project, "node_modules");
    mkdirSync(modules);
    symlinkSync(root, join(modules, "asyncnbd"));
    symlinkSync(join(root, "node_modules", "@types"), join(modules, "@types"));
    writeFileSync(join(project, "package.json"), '{ "type": "module" }');
    const compilerOptions = {
      ...{ module: "nodenext", target: "es2022", lib: ["es2023"], strict: true, types: ["node"] },
      ...{ skipLibCheck: true, rootDir: "src", outDir: "out", noUncheckedIndexedAccess: true },
    };
    writeFileSync(
      join(project, "tsconfig.json"),
      JSON.stringify({ compilerOptions, include: ["src"] }),
    );
    for (const file of DOCUMENTS)
      for (const [name, text] of modulesOf(file)) {
        const folder = join(project, "src", basename(file, ".md"));
        mkdirSync(folder, { recursive: true });
        writeFileSync(join(folder, name), text);
      }
    await runOk([join(root, "node_modules", ".bin", "tsc"), "-p", project]);
    await runsAndCloses(join(project, "out", "typescript-plugins", "program.js"));
  });

  const inC = blocks.flatMap((block) => {
    const decision = decisionOf(block);
    return "of" in decision && decision.of === "c" ? [whole(decision, block.text)] : [];
  });
  test.each(inC.map((text, i) => [i + 1, text] as const))(
    "has C that compiles, part %i",
    async (_, text) => {
      const options = ["-Wall", "-Werror", "-Wno-unused", "-fsyntax-only"];
      await runOk(["cc", ...options, "-I", join(root, "native/include"), "-x", "c", "-"], {
        input: text,
      });
    },
  );
});

/** What the commands presuppose: images, plugins, a web server, and for some a clone. */
async function furnish(sandbox: Sandbox, file: string, authority: Authority): Promise<void> {
  const at = (name: string): string => join(sandbox.directory, name);
  for (const image of ["disk.img", "image.raw"]) writeFileSync(at(image), patternBytes(MIB));
  for (const from of ["docs/typescript-plugins.md", file])
    for (const [name, text] of modulesOf(from)) writeFileSync(at(name), text);
  if (file === "README.md")
    for (const folder of ["native", "examples"]) symlinkSync(join(root, folder), at(folder));
  else
    for (const example of ["ramdisk.c", "readonly-hours.c"])
      cpSync(join(root, "examples", example), at(example));
  if (!readFileSync(join(root, file), "utf8").includes("https://example.com/")) return;
  const identity = authority.issue("server", { host: "example.com" });
  const script = join(identity, "web.mjs");
  writeFileSync(script, WEB_SERVER);
  sandbox.start([process.execPath, script, identity, at("disk.img")]);
  await eventually("the web server", () => sandbox.output.includes("listening") || undefined);
}

const WEB_SERVER = `
import { readFileSync } from "node:fs";
import { createServer } from "node:https";
const [, , identity, path] = process.argv;
const content = readFileSync(path);
const [key, cert] = ["key", "cert"].map((what) => readFileSync(\`\${identity}/server-\${what}.pem\`));
createServer({ key, cert }, (request, response) => {
  const [, from, to] = /^bytes=(\\d+)-(\\d+)$/.exec(request.headers.range).map(Number);
  const part = content.subarray(from, to + 1);
  const range = \`bytes \${from}-\${from + part.length - 1}/\${content.length}\`;
  response.writeHead(206, { "content-range": range, etag: '"1"' }).end(part);
}).listen(443, "127.0.0.1", () => console.log("listening"));
`;

/** Where the document says that they belong. */
function useCertificates(sandbox: Sandbox): void {
  const at = (name: string): string => join(sandbox.directory, name);
  for (const folder of ["nbd", "nbd-client"]) {
    mkdirSync(at(folder), { recursive: true });
    cpSync(at("ca-cert.pem"), join(at(folder), "ca-cert.pem"));
  }
  for (const name of ["server-cert.pem", "server-key.pem"]) cpSync(at(name), join(at("nbd"), name));
}

async function runsAndCloses(path: string): Promise<void> {
  const program = spawn(process.execPath, [path], { stdio: ["ignore", "pipe", "inherit"] });
  onTestFinished(() => void program.kill("SIGKILL"));
  let output = "";
  program.stdout.setEncoding("utf8").on("data", (text: string) => {
    output += text;
  });
  const ended = new Promise((resolve) => program.once("exit", resolve));
  const uri = await eventually("the program's URI", () => /^nbd\S+/.exec(output)?.[0]);
  expect(await runOk(["nbdinfo", "--size", uri])).toBe(`${2 ** 30}\n`);
  await eventually("its client", () => output.includes("client 1\n") || undefined);
  program.kill("SIGINT");
  expect(await ended).toBe(0);
}
