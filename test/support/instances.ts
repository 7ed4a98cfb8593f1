// Programs that serve a plugin several times in one process.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect } from "vitest";
import { run } from "./command.js";
import { serverEnvironment, temporaryDirectory } from "./server.js";

const index = fileURLToPath(new URL("../../dist/index.js", import.meta.url));

const PRELUDE = `
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { promisify } from "node:util";
import { fileURLToPath } from "node:url";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { serve } from ${JSON.stringify(index)};
const env = { ...process.env, LD_PRELOAD: "" };
const sh = async (command) => (await promisify(execFile)("sh", ["-c", command], { env })).stdout;
const holds = (uri, byte) => sh(\`qemu-io -r -f raw -c 'read -P \${byte} 0 4k' '\${uri}'\`);
const image = (name, byte) => {
  writeFileSync(name, Buffer.alloc(65536, byte));
  return { plugin, config: { file: process.cwd() + "/" + name } };
};
`;

/** Runs a program, which must end by itself and well. */
export async function program(
  plugin: string,
  body: string,
  env: NodeJS.ProcessEnv = {},
): Promise<void> {
  const directory = temporaryDirectory();
  const path = join(directory, "program.mjs");
  writeFileSync(path, `const plugin = ${JSON.stringify(plugin)};\n${PRELUDE}${body}`);
  // LeakSanitizer's own crash would be taken for the program's.
  const all = { ...serverEnvironment(), ASAN_OPTIONS: "exitcode=99:detect_leaks=0", ...env };
  const finished = await run([process.execPath, path], { cwd: directory, env: all });
  expect(finished, finished.stderr).toMatchObject({ status: 0 });
}
