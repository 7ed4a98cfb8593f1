// The asyncnbd command: from arguments to an exit status. What a server in the background does
// without, such as the words of --help, is loaded where it is asked for.

import { addon } from "../addon/addon.js";
import { parseConfig } from "../config/parse.js";
import { AsyncnbdError, messageOf, UsageError } from "../errors.js";
import { findProgram } from "../plugins/program.js";
import { pendingCallbacks } from "../plugins/script/pending.js";
import { checkActivation, takeActivation } from "./activation.js";
import { guardExit } from "./end.js";
import { type ParsedLine, parseLine } from "./getopt.js";
import { takeInheritance } from "./inheritance.js";
import { configureLog, openLog } from "./log-options.js";
import { OPTIONS } from "./options.js";
import { takeReadiness } from "./readiness.js";

/** What is asked for in place of a server. */
const PLAIN_QUESTIONS = ["long-options", "short-options", "dump-config", "completion"];
const PLUGIN_QUESTIONS = ["help", "version", "dump-plugin"];

/** A plugin that is a program takes the whole command line; a script of nbdkit's becomes one. */
function withProgram(line: ParsedLine): ParsedLine {
  const [name = "", ...parameters] = line.operands;
  const program = findProgram(name);
  if (program === undefined) return line;
  if (program.interpreter !== undefined) {
    const operands = [program.path, ...parameters];
    const words = [...line.optionWords, ...program.interpreter, "--", ...operands];
    return withProgram(parseLine(words, OPTIONS));
  }
  const words = [...line.optionWords, ...parameters];
  addon().ownProcess(takeInheritance(process.env, 0)); // which is the program's, all of it
  const reason = addon().execute(program.path, [name, ...words]);
  throw new AsyncnbdError("PROCESS_FAILED", `cannot execute ${program.path}: ${reason}`);
}

/** Refuses -s with closed streams, in whose place Node has opened /dev/null. */
function refuseClosed(streams: readonly number[]): void {
  const names = ["standard input", "standard output"].filter((_, fd) => streams.includes(fd));
  if (names.length > 0)
    throw new AsyncnbdError(
      "STREAM_CLOSED",
      `-s serves a client on standard input and output, but ${names.join(" and ")} ` +
        `${names.length === 1 ? "is" : "are"} closed`,
    );
}

async function main(words: readonly string[]): Promise<number> {
  const given = parseLine(words, OPTIONS);
  if (given.operands.length === 0 || PLAIN_QUESTIONS.some((option) => given.options.has(option))) {
    process.stdout.write(await (await import("./answers.js")).plainAnswer(given));
    return 0;
  }
  const line = withProgram(given);
  const [plugin, ...parameters] = line.operands as [string, ...string[]];
  const activatedSockets = takeActivation(process.env);
  if (activatedSockets > 0) checkActivation(line.options);
  const config = parseConfig(line.options, plugin, parameters, activatedSockets);
  const inheritance = takeInheritance(process.env, activatedSockets);
  const isQuestion = PLUGIN_QUESTIONS.some((option) => line.options.has(option));
  const readyFd = takeReadiness();
  // All that the launcher does is twice: it does without the addon.
  if (config.background && !isQuestion && readyFd === undefined)
    return (await import("./background.js")).launch(inheritance);
  addon().ownProcess(inheritance);
  process.umask(0o022);
  openLog(config);
  configureLog(config);
  if (isQuestion) {
    await (await import("./answers.js")).answerAboutPlugin(line, config);
    return 0;
  }
  if (config.listen.kind === "stdio") refuseClosed(inheritance.closedStreams);
  return (await import("./server-process.js")).serve(config, readyFd);
}

const helpHint = (text: string): string =>
  text.endsWith("?") ? ' Try "asyncnbd --help"' : '; try "asyncnbd --help"';

/** Prints what went wrong, unless a plugin has. */
function report(error: unknown): void {
  if (!(error instanceof AsyncnbdError)) {
    process.stderr.write(`asyncnbd: error: ${error instanceof Error ? error.stack : error}\n`);
    return;
  }
  if (error.isLogged) return;
  const text = messageOf(error) + (error instanceof UsageError ? helpHint(error.message) : "");
  try {
    addon().logError(text);
  } catch {
    process.stderr.write(`asyncnbd: error: ${text}\n`); // the addon itself may be what is missing
  }
}

let isOver = false;

// Where nothing is left that could go on, Node would end without a word.
process.once("beforeExit", () => {
  if (isOver) return;
  const [callback = "a callback of the plugin"] = pendingCallbacks();
  addon().logError(`${callback} returned a promise that will never settle`);
  process.exit(1);
});

async function run(): Promise<void> {
  try {
    process.exitCode = await main(process.argv.slice(2));
    isOver = true;
  } catch (error) {
    isOver = true;
    report(error);
    process.exitCode = 1;
    // Nothing should keep the event loop alive now; if something does, it must not have its way.
    setTimeout(() => process.exit(1), 1000).unref();
  }
  guardExit(process.exitCode);
}

void run();
