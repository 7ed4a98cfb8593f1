// Programs that use the package, each in a process of its own.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type CommandOptions, type Finished, run, runOk } from "./command.js";
import { serverEnvironment, temporaryDirectory } from "./server.js";

const index = fileURLToPath(new URL("../../dist/index.js", import.meta.url));

const PRELUDE = `
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { once } from "node:events";
import { connect } from "node:net";
import { promisify } from "node:util";
import { AsyncnbdError, definePlugin, failure, serve } from ${JSON.stringify(index)};
const env = { ...process.env, LD_PRELOAD: "" };
const sh = async (command) => (await promisify(execFile)("sh", ["-c", command], { env })).stdout;
const ram = (text = "") => definePlugin({
  name: "ram",
  config: { size: "size", label: { type: "string", default: "" } },
  open() { return this.disk ??= Buffer.alloc(this.config.size); },
  getSize: (disk) => disk.length,
  exportDescription() { return this.config.label + text; },
  pread: (disk, buf, offset) => { disk.copy(buf, 0, offset, offset + buf.length); },
  pwrite: (disk, buf, offset) => { buf.copy(disk, offset); },
});
`;

/** Runs a program, which must end by itself. */
export function runProgram(body: string): Promise<Finished> {
  return run(...prepared(body));
}

/** The same, and well. */
export function program(body: string): Promise<string> {
  return runOk(...prepared(body));
}

function prepared(body: string): [readonly string[], CommandOptions] {
  const path = join(temporaryDirectory(), "program.mjs");
  writeFileSync(path, PRELUDE + body);
  // LeakSanitizer's own crash would be taken for the program's.
  const env = { ...serverEnvironment(), ASAN_OPTIONS: "exitcode=99:detect_leaks=0" };
  return [[process.execPath, path], { env }];
}
