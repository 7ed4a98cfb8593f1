// How long until the command serves, in the foreground and in the background, and what it takes while
// it does nothing, against a bare `node -e 0` of the same round.
//   npm run bench:start -- [--rounds 20] [--memory-rounds 3] [--command PATH] [--json FILE]

import { spawn } from "node:child_process";
import {
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  truncateSync,
  watch,
  writeFileSync,
} from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { readOptions } from "./support/options.mjs";
import { Progress, round } from "./support/progress.mjs";
import { endStranger } from "./support/servers.mjs";
import { environment, median } from "./support/statistics.mjs";

const options = readOptions(import.meta.url, {
  rounds: { type: "string", default: "20" },
  "memory-rounds": { type: "string", default: "3" },
  command: { type: "string" },
  json: { type: "string" },
});
const rounds = Number(options.rounds);
const memoryRounds = Number(options["memory-rounds"]);
// As users start it: a shell's few lines come before Node.
const command = options.command ?? fileURLToPath(new URL("../dist/cli/main.js", import.meta.url));

/** What is wanted. Nothing else starts before a server could: `node -e 0` is the measure. */
const FOREGROUND_MORE_MS = 25;
const BACKGROUND_MORE_MS = 25; // than two of them: the launcher and the server
const REST_MORE_MIB = 4;

/** Work that is left to do, such as to collect garbage, is done after so long. */
const SETTLE_MS = 2500;

const directory = mkdtempSync(join(tmpdir(), "asyncnbd-bench-"));
const at = (/** @type {string} */ name) => join(directory, name);
writeFileSync(at("disk"), "");
truncateSync(at("disk"), 1 << 30);

/** @type {Record<string, string[]>} */
const SERVERS = {
  memory: ["memory", "1G"],
  file: ["file", at("disk")],
  "ram.ts": ["ram", "1G"],
};
/** What has a bar. */
const NATIVE = ["memory", "file"];

/** @type {NodeJS.ProcessEnv} */
const env = { ...process.env, PATH: `${dirname(process.execPath)}:${process.env.PATH}` };
delete env.NODE_EXTRA_CA_CERTS; // which Node reads before anything else

/** @param {readonly string[]} words */
function start([file = "", ...args]) {
  const child = spawn(file, args, { env, stdio: ["ignore", "ignore", "inherit"] });
  const ended = new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", resolve);
  });
  return { child, ended };
}

/** @param {() => Promise<unknown>} what */
async function timeMs(what) {
  const begin = performance.now();
  await what();
  return performance.now() - begin;
}

const bareMs = () => timeMs(() => start([process.execPath, "-e", "0"]).ended);

/** Rejects where nobody listens. */
const greeting = () =>
  new Promise((resolve, reject) => {
    const client = connect(at("sock"));
    client.once("data", () => resolve(client.destroy()));
    client.once("error", reject);
  });

/** The socket's file is there; it has a name before somebody listens. */
const socketMade = () =>
  /** @type {Promise<void>} */ (
    new Promise((resolve) => {
      const watcher = watch(directory, () => {
        if (!existsSync(at("sock"))) return;
        watcher.close();
        resolve();
      });
    })
  );

/** @param {import("node:child_process").ChildProcess} server */
async function greeted(server) {
  while (server.exitCode === null && server.signalCode === null)
    try {
      return await greeting();
    } catch {
      await new Promise((resolve) => setImmediate(resolve));
    }
}

/** @param {readonly string[]} plugin */
async function foregroundMs(plugin) {
  const made = socketMade();
  /** @type {ReturnType<typeof start> | undefined} */
  let server;
  try {
    return await timeMs(async () => {
      server = start([command, "-f", "-U", at("sock"), ...plugin]);
      const ended = server.ended.then(() => Promise.reject(new Error(`${command} has ended`)));
      await Promise.race([made, ended]);
      await Promise.race([greeted(server.child), ended]);
    });
  } finally {
    await end(server);
  }
}

/** @param {ReturnType<typeof start> | undefined} server */
async function end(server) {
  server?.child.kill();
  await server?.ended;
  rmSync(at("sock"), { force: true });
}

/** @param {readonly string[]} plugin */
async function backgroundMs(plugin) {
  const words = [command, "-P", at("pid"), "-U", at("sock"), ...plugin];
  const ms = await timeMs(() => start(words).ended);
  await greeting(); // or it would be no server
  await endStranger(Number(readFileSync(at("pid"), "utf8")));
  rmSync(at("sock"), { force: true });
  return ms;
}

/** Resident memory, where what processes share counts as a part for each. @param {number | undefined} pid */
function restMib(pid) {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
  return Number(/^Pss:\s*(\d+)/m.exec(text)?.[1]) / 1024;
}

/** Each beside a bare one, with which it shares Node's own. */
async function measureRest() {
  for (const [name, plugin] of Object.entries(SERVERS)) {
    const bare = start([process.execPath, "-e", "setInterval(() => {}, 1e9)"]);
    const server = start([command, "-f", "-U", at("sock"), ...plugin]);
    await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
    note("bare", "restMib", restMib(bare.child.pid));
    note(name, "restMib", restMib(server.child.pid));
    await end(bare);
    await end(server);
  }
}

/** @type {Record<string, Record<string, number[]>>} */
const trials = {};
/** @param {string} server @param {string} what @param {number} value */
function note(server, what, value) {
  trials[server] ??= {};
  trials[server][what] = [...(trials[server][what] ?? []), value];
}

const progress = new Progress("start", rounds + memoryRounds);
try {
  for (let i = 0; i < rounds; i++) {
    progress.step(round(i, rounds));
    note("bare", "startMs", await bareMs());
    for (const [name, plugin] of Object.entries(SERVERS)) {
      note(name, "foregroundMs", await foregroundMs(plugin));
      note(name, "backgroundMs", await backgroundMs(plugin));
    }
  }
  for (let i = 0; i < memoryRounds; i++) {
    progress.step(`memory at rest, ${round(i, memoryRounds)}`);
    await measureRest();
  }
} finally {
  rmSync(directory, { recursive: true });
}
progress.clear();

/** @param {string} server @param {string} what */
const of = (server, what) => median(trials[server]?.[what] ?? []);
const bare = { startMs: of("bare", "startMs"), restMib: of("bare", "restMib") };
const results = Object.keys(SERVERS).map((server) => ({
  server,
  foregroundMs: of(server, "foregroundMs"),
  backgroundMs: of(server, "backgroundMs"),
  restMib: of(server, "restMib"),
}));
const more = (/** @type {number} */ value, /** @type {number} */ than) =>
  `${value.toFixed(1)} (+ ${(value - than).toFixed(1)})`;
console.log(
  "| | foreground ms (more than bare) | background ms (than two bare) | Pss at rest MiB |",
);
console.log("|---|---:|---:|---:|");
console.log(`| node -e 0 | ${bare.startMs.toFixed(1)} | – | ${bare.restMib.toFixed(1)} |`);
for (const { server, foregroundMs, backgroundMs, restMib } of results)
  console.log(
    `| ${server} | ${more(foregroundMs, bare.startMs)} | ${more(backgroundMs, 2 * bare.startMs)} | ` +
      `${more(restMib, bare.restMib)} |`,
  );
const met = results
  .filter(({ server }) => NATIVE.includes(server))
  .flatMap(({ foregroundMs, backgroundMs, restMib }) => [
    foregroundMs <= bare.startMs + FOREGROUND_MORE_MS,
    backgroundMs <= 2 * bare.startMs + BACKGROUND_MORE_MS,
    restMib <= bare.restMib + REST_MORE_MIB,
  ]);
console.log(`\n${met.filter(Boolean).length} of ${met.length} bars met`);
if (options.json !== undefined)
  writeFileSync(
    options.json,
    JSON.stringify({ environment: environment(), bare, results, trials }, null, 2),
  );
