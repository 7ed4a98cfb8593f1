// Runs a command without its output, which is shown where it fails: quietly WHAT COMMAND [ARGUMENT…]
// Meanwhile it tells what is being done and how far it is, on standard error: in place on a terminal,
// elsewhere a line now and then. Of make as node-gyp calls it, and of ninja, it counts what they compile.

import { spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { constants } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

const LINE_EVERY_MS = 15_000;
const REDRAW_EVERY_MS = 500;
/** Before so many, the time left would be a guess. */
const MIN_COMPILED = 5;

const [what = "", file = "", ...args] = process.argv.slice(2);
const isTerminal = process.stderr.isTTY === true;
const started = performance.now();

/** @type {string[]} */
const output = [];
/** @type {{ done: number, total: number, label: string, since: number } | undefined} */
let compiling;
let shown = started;

/** How many files there are to compile, by node-gyp's makefiles. @param {string} directory */
function objectsIn(directory) {
  const all = readdirSync(directory).filter((name) => name.endsWith(".target.mk"));
  const named = all.filter((name) => args.includes(name.replace(".target.mk", "")));
  const makefiles = named.length > 0 ? named : all;
  const text = makefiles.map((name) => readFileSync(join(directory, name), "utf8")).join("");
  return text.match(/\.target\/.*\.o( \\)?$/gm)?.length ?? 0;
}

/** @param {string} line */
function look(line) {
  const [, directory] = /^make.*: Entering directory '(.*)'$/.exec(line) ?? [];
  if (directory !== undefined)
    compiling = { done: 0, total: objectsIn(directory), label: "", since: performance.now() };
  const [, object] = /^ {2}(?:CC|CXX)\(target\) \S*?obj\.target\/(.*)\.o$/.exec(line) ?? [];
  if (object !== undefined && compiling !== undefined) {
    compiling.done++;
    compiling.label = object.replace(/^[^/]*\//, "");
  }
  const [, done, total, rest = ""] = /^\[(\d+)\/(\d+)\] (.*)/.exec(line) ?? [];
  if (done !== undefined) {
    const label = rest.replace(/^.* (?:\S*\/)?(\S+\/\S+)\.o$/, "$1");
    const since = compiling?.since ?? performance.now();
    compiling = { done: Number(done), total: Number(total), label, since };
  }
}

/** @param {number} seconds */
const about = (seconds) =>
  seconds < 90 ? `${Math.max(1, Math.round(seconds))} s` : `${Math.round(seconds / 60)} min`;

function state() {
  const seconds = Math.round((performance.now() - started) / 1000);
  if (compiling === undefined || compiling.done === 0) return `${what} (${seconds} s)`;
  const { done, total, label, since } = compiling;
  const left = ((performance.now() - since) / done) * (total - done);
  const estimate = done < MIN_COMPILED ? "" : `, about ${about(left / 1000)} left`;
  return `[${done}/${total}${estimate}] ${what}: ${label}`;
}

function show() {
  const now = performance.now();
  if (isTerminal) {
    const columns = process.stderr.columns || 80;
    process.stderr.write(`\r${state().slice(0, columns - 1)}\x1b[K`);
  } else if (now - shown >= LINE_EVERY_MS) {
    shown = now;
    process.stderr.write(`${state()}\n`);
  }
}

if (!isTerminal) process.stderr.write(`${what}\n`);
const child = spawn(file, args, { stdio: ["ignore", "pipe", "pipe"] });
for (const stream of [child.stdout, child.stderr])
  createInterface({ input: stream }).on("line", (line) => {
    output.push(line);
    look(line);
  });
const redrawing = setInterval(show, REDRAW_EVERY_MS);

// A terminal's ^C reaches the command too; others are passed on.
process.on("SIGINT", () => {});
for (const signal of /** @type {const} */ (["SIGTERM", "SIGHUP"]))
  process.on(signal, () => child.kill(signal));

child.once("error", (error) => {
  console.error(`${file}: ${error.message}`);
  process.exitCode = 127;
  clearInterval(redrawing);
});
child.once("close", (code, signal) => {
  clearInterval(redrawing);
  const seconds = Math.round((performance.now() - started) / 1000);
  const succeeded = code === 0;
  if (isTerminal)
    process.stderr.write(`\r${what}: ${succeeded ? "done" : "failed"}, ${seconds} s\x1b[K\n`);
  if (!succeeded) process.stderr.write(`${output.join("\n")}\n`);
  process.exitCode ??= code ?? 128 + constants.signals[/** @type {NodeJS.Signals} */ (signal)];
});
