// What the documentation shows works: its commands are run as they are written, its programs and
// plugins are compiled, and run where they are whole. A block of code or a command that is new needs a
// decision in support/document-decisions.ts.

import { spawn } from "node:child_process";
import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, onTestFinished, test } from "vitest";
import { Authority } from "../support/certificates.js";
import { runOk } from "../support/command.js";
import { BLOCKS, type Decision, type Elsewhere, IN_PROSE } from "../support/document-decisions.js";
import {
  type Block,
  blocksOf,
  commandsInProse,
  commandsOf,
  DOCUMENTS,
  indentedCode,
} from "../support/documents.js";
import { MIB, patternBytes } from "../support/fixtures.js";
import { Sandbox } from "../support/sandbox.js";
import { eventually, sanitizer, temporaryDirectory } from "../support/server.js";

const root = fileURLToPath(new URL("../../", import.meta.url));

/** What commands find in place of what a test has not, or must not touch. */
const HOSTS = ["example.com", "server.example.com"];
const COMPLETION_FOLDERS = [
  ".local/share/bash-completion/completions",
  ...[".config/fish/completions", ".zsh/completions"],
];
const SUBSTITUTES: readonly (readonly [RegExp, string])[] = [
  [/\/etc\/nbd/g, "$PWD/nbd"], // nothing is written there
  [/'(nbds:\S*\$PWD\S*)'/g, '"$1"'], // so that it is replaced
];

const blocks: readonly Block[] = DOCUMENTS.flatMap(blocksOf);
const keysOf = ({ file, text }: Block): string[] =>
  Object.keys(BLOCKS).filter((key) => `${file}: ${text}`.startsWith(key));
const decisionOf = (block: Block): Decision =>
  BLOCKS[keysOf(block)[0] ?? ""] ?? { cannot: "nothing is decided, which is an error of its own" };

test("each block of code has one decision, and each decision a block", () => {
  for (const block of blocks) expect(keysOf(block), `${block.file}: ${block.text}`).toHaveLength(1);
  expect(new Set(blocks.flatMap(keysOf))).toEqual(new Set(Object.keys(BLOCKS)));
});

test("no code is marked by indentation alone", () => {
  expect(DOCUMENTS.flatMap(indentedCode)).toEqual([]);
});

test("each command in prose has a decision, and each decision a command", () => {
  const commands = new Set(DOCUMENTS.flatMap(commandsInProse));
  expect([...commands].sort()).toEqual(Object.keys(IN_PROSE).sort());
});

/** All that is decided, for blocks, parts of them, and prose. */
const decided = [
  ...Object.values(BLOCKS),
  ...Object.values(BLOCKS).flatMap((one) => ("but" in one ? Object.values(one.but ?? {}) : [])),
  ...Object.values(IN_PROSE),
];

test("tests named as running a command exist", () => {
  for (const { elsewhere } of decided.filter((one): one is Elsewhere => "elsewhere" in one)) {
    const [file, words] = elsewhere;
    expect(readFileSync(join(root, file), "utf8").replaceAll(" --silent", "")).toContain(words);
  }
});

test("files shown in the documentation are as shown", () => {
  for (const block of blocks) {
    const decision = decisionOf(block);
    if ("same" in decision)
      expect(block.text).toBe(readFileSync(join(root, decision.same), "utf8"));
  }
});

/** Modules of TypeScript that documents have, by their paths: a folder for each document. */
const modulesOf = (file: string): [string, string][] =>
  blocksOf(file).flatMap((block): [string, string][] => {
    const decision = decisionOf(block);
    return "module" in decision ? [[decision.module, block.text]] : [];
  });

/** Sources of plugins that the document's commands build, by their names. */
const sourcesOf = (file: string): [string, string][] =>
  blocksOf(file).flatMap((block): [string, string][] => {
    const decision = decisionOf(block);
    return "source" in decision ? [[decision.source, block.text]] : [];
  });

const whole = (decision: Extract<Decision, { part: string }>, text: string): string =>
  decision.part + (decision.with === undefined ? text : text.replace(...decision.with));

describe.skipIf(sanitizer !== undefined)("the documentation", () => {
  const withCommands = DOCUMENTS.filter((file) =>
    blocksOf(file).some((block) => "commands" in decisionOf(block)),
  );

  test.each(withCommands)("of %s has commands that do what they say", async (file) => {
    const authority = new Authority();
    const home = temporaryDirectory();
    const sandbox = await Sandbox.make(HOSTS, {
      ...{ NODE_EXTRA_CA_CERTS: authority.caCertificate, HOME: home },
      CURL_CA_BUNDLE: authority.caCertificate,
    });
    for (const folder of COMPLETION_FOLDERS) mkdirSync(join(home, folder), { recursive: true });
    await furnish(sandbox, file, authority);
    const numbered = blocksOf(file).flatMap((block) => {
      const decision = decisionOf(block);
      if (!("commands" in decision)) return [];
      return [{ block, number: decision.commands, but: Object.keys(decision.but ?? {}) }];
    });
    for (const { block, but } of numbered.sort((a, b) => a.number - b.number)) {
      const commands = commandsOf(block);
      for (const left of but) expect(commands.some((one) => one.startsWith(left))).toBe(true);
      for (const written of commands) {
        if (but.some((left) => written.startsWith(left))) continue;
        const command = SUBSTITUTES.reduce((text, pair) => text.replace(...pair), written);
        if (/^asyncnbd/.test(command)) await sandbox.stopServers();
        await sandbox.run(command);
      }
      await sandbox.stopServers();
      if (file === "docs/tls.md") useCertificates(sandbox);
    }
  });

  const inProse = Object.values(IN_PROSE).flatMap((one) => ("run" in one ? [one.run] : []));
  test.each(inProse)("has a command in its prose that does what it says: %s", async (command) => {
    const sandbox = await Sandbox.make(HOSTS);
    await sandbox.run(
      command.replaceAll("$CLONE", root.slice(0, -1)).replaceAll("$SANDBOX", sandbox.directory),
    );
    await sandbox.stopServers();
  });

  test("has plugins, filters and programs in TypeScript that compile, and a program that runs", async () => {
    const project = temporaryDirectory();
    const modules = join(project, "node_modules");
    mkdirSync(modules);
    symlinkSync(root, join(modules, "asyncnbd"));
    for (const name of ["@types", "zod"])
      symlinkSync(join(root, "node_modules", name), join(modules, name));
    writeFileSync(join(project, "package.json"), '{ "type": "module" }');
    const options = join(root, "examples", "typescript-plugin", "tsconfig.json");
    cpSync(options, join(project, "tsconfig.json")); // the one that the documentation shows
    for (const file of DOCUMENTS)
      for (const [name, text] of modulesOf(file)) {
        const folder = join(project, "src", basename(file, ".md"));
        mkdirSync(folder, { recursive: true });
        writeFileSync(join(folder, name), text);
      }
    await runOk([join(root, "node_modules", ".bin", "tsc"), "-p", project]);
    await runsAndCloses(join(project, "dist", "src", "typescript-plugins", "program.js"));
  });

  const inC = blocks.flatMap((block) => {
    const decision = decisionOf(block);
    return "part" in decision ? [whole(decision, block.text)] : [];
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
  for (const [name, text] of sourcesOf(file)) writeFileSync(at(name), text);
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
  program.kill("SIGINT");
  expect(await ended).toBe(0);
}
