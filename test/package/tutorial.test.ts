// The tutorial, done as it is written: from an empty folder, its files are made and its commands run in
// their order, and they print what it shows. TypeScript comes by network.

import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { beforeAll, describe, expect, inject, test } from "vitest";
import { runOk } from "../support/command.js";
import { BLOCKS } from "../support/document-decisions.js";
import { type Block, sectionsOf } from "../support/documents.js";

const DOCUMENT = "docs/tutorial.md";
const EXAMPLES = "examples/tutorial/";
const DEADLINE_MS = 300_000;

let folder = "";
/** Where the reader is. */
let here = "";
let env: NodeJS.ProcessEnv;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "asyncnbd-tutorial-"));
  here = folder;
  const installed = join(folder, "installed");
  env = {
    ...process.env,
    ...{ PATH: `${installed}/bin:${process.env.PATH}`, NO_COLOR: "1", NO_UPDATE_NOTIFIER: "1" },
    ...{ npm_config_prefix: installed, npm_config_audit: "false", npm_config_fund: "false" },
    npm_config_prefer_offline: "true",
    npm_config_loglevel: "error",
    // As on a terminal; SQLite may still be experimental in this Node.js.
    NODE_OPTIONS: "--test-reporter=spec --disable-warning=ExperimentalWarning",
  };
  await runOk(["npm", "install", "-g", inject("tarball")], { env, deadlineMs: DEADLINE_MS });
  return () => rmSync(folder, { recursive: true, force: true });
}, DEADLINE_MS);

interface Step {
  readonly command: string;
  /** What is shown of its output; "": nothing. */
  readonly shown: string;
}

function stepsOf({ text }: Block): Step[] {
  const [, ...parts] = `\n${text}`.split("\n$ ");
  return parts.map((part) => {
    const [command = "", ...lines] = part.split("\n");
    return { command, shown: lines.join("\n").trim() };
  });
}

/** "…" stands for anything, and times differ. */
function patternOf(shown: string): RegExp {
  const text = shown.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  const times = text.replace(/\d+(?:\\\.\d+)?ms|duration_ms \d+(?:\\\.\d+)?/g, "[\\w .]+");
  // A line of its own stands for any lines, perhaps none: some versions of npm say what they run.
  const lines = times.replace(/^…\n/gm, "(?:[^]*?\n)??");
  return new RegExp(`^${lines.replaceAll("…", "[^]*?")}$`);
}

/** As typed into a shell: both streams, in the order in which they come. */
async function typed(command: string): Promise<{ status: number; output: string }> {
  const place = join(folder, "place");
  const script = `exec 2>&1\n${command}\nstatus=$?; pwd > ${place}; exit $status`;
  const child = spawn("bash", ["-c", script], {
    cwd: here,
    env,
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    output += text;
  });
  const status = await new Promise<number>((resolve) => {
    child.once("close", (code) => resolve(code ?? -1));
  });
  here = readFileSync(place, "utf8").trim();
  return { status, output: output.trim() };
}

function makeFile(block: Block): void {
  const key = Object.keys(BLOCKS).find((one) => `${block.file}: ${block.text}`.startsWith(one));
  const decision = BLOCKS[key ?? ""];
  if (decision === undefined || !("same" in decision) || !decision.same.startsWith(EXAMPLES))
    throw new Error(`${DOCUMENT} has a block that is no file of ${EXAMPLES}:\n${block.text}`);
  const path = join(here, decision.same.slice(EXAMPLES.length));
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, block.text);
}

async function work(block: Block): Promise<void> {
  if (block.language !== "console") return makeFile(block);
  for (const { command, shown } of stepsOf(block)) {
    const { status, output } = await typed(command);
    if (shown === "") expect({ command, status, output }).toMatchObject({ command, status: 0 });
    else expect(output, command).toMatch(patternOf(shown));
  }
}

/** node:sqlite has what the third disk needs from 22.16 on. */
const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
const hasSqlite = major > 22 || (major === 22 && minor >= 16);

describe("the tutorial", { timeout: DEADLINE_MS }, () => {
  for (const { title, blocks } of sectionsOf(DOCUMENT)) {
    if (blocks.length === 0) continue;
    const needsSqlite = blocks.some(({ text }) => text.includes('from "node:sqlite"'));
    test.skipIf(needsSqlite && !hasSqlite)(`works as described: ${title}`, async () => {
      for (const block of blocks) await work(block);
    });
  }
});

test("shown output is compared with real output, except for omissions", () => {
  expect("✔ a (12.5ms)\nb").toMatch(patternOf("✔ a (3ms)\n…"));
  expect("✔ a (12.5ms)\nb").not.toMatch(patternOf("✔ a (3ms)"));
  expect("✔ a (12.5ms)").toMatch(patternOf("…\n✔ a (3ms)"));
  expect("✖ a (12.5ms)").not.toMatch(patternOf("✔ a (3ms)"));
});
