// The asyncnbd command: from arguments to an exit status.

import { addon } from "../addon/addon.js";
import { parseConfig } from "../config/parse.js";
import type { Config } from "../config/schema.js";
import { AsyncnbdError, messageOf, UsageError } from "../errors.js";
import { Chain } from "../exports/chain.js";
import { Life } from "../plugins/life.js";
import { findProgram } from "../plugins/program.js";
import { pendingCallbacks } from "../plugins/script/runner.js";
import { checkActivation, takeActivation } from "./activation.js";
import { launch, takeReadiness } from "./background.js";
import { guardExit } from "./end.js";
import { type ParsedLine, parseLine } from "./getopt.js";
import {
  dumpConfigText,
  helpText,
  longOptionsText,
  pluginHelpText,
  pluginVersionText,
  shortOptionsText,
  versionText,
} from "./help.js";
import { takeInheritance } from "./inheritance.js";
import { OPTIONS } from "./options.js";
import { configureLog, openFlagged, openLog, parametersFor, serve } from "./server-process.js";

/** What answers at once and needs no plugin. */
async function plainAnswer({ options, operands }: ParsedLine): Promise<string | undefined> {
  if (options.has("long-options")) return longOptionsText();
  if (options.has("short-options")) return shortOptionsText();
  if (options.has("dump-config")) return dumpConfigText();
  const shell = options.last("completion");
  if (shell !== undefined) return (await import("./completion.js")).completionText(shell, operands);
  if (operands.length > 0) return undefined;
  if (options.has("help")) return helpText();
  if (options.has("version")) return versionText();
  throw new UsageError(
    options.has("dump-plugin") ? "--dump-plugin needs a PLUGIN" : "no PLUGIN was given",
  );
}

/** --help, --version and --dump-plugin with a plugin; undefined if none of them was given. */
async function answerAboutPlugin({ options }: ParsedLine, config: Config): Promise<boolean> {
  const asked = ["help", "version", "dump-plugin"].filter((option) => options.has(option));
  if (asked.length === 0) return false;
  if (asked.includes("dump-plugin") && options.has("single"))
    throw new UsageError("--dump-plugin and --single cannot be used together");
  const chain = await openFlagged(config, () => Chain.open(config));
  const life = new Life(chain);
  await life.load();
  if (asked.includes("help")) {
    addon().print(helpText() + pluginHelpText(chain.about));
  } else if (asked.includes("version")) {
    addon().print(versionText() + pluginVersionText(chain.about));
  } else {
    life.config(parametersFor(chain.about, config.parameters));
    chain.settleThreadModel();
    await chain.dump((lines) => addon().print(lines));
  }
  await life.end();
  return true;
}

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
  throw new AsyncnbdError("PLUGIN", `cannot execute ${program.path}: ${reason}`);
}

/** Refuses -s with closed streams, in whose place Node has opened /dev/null. */
function refuseClosed(streams: readonly number[]): void {
  const names = ["standard input", "standard output"].filter((_, fd) => streams.includes(fd));
  if (names.length > 0)
    throw new AsyncnbdError(
      "SYSTEM",
      `-s serves a client on standard input and output, but ${names.join(" and ")} ` +
        `${names.length === 1 ? "is" : "are"} closed`,
    );
}

async function main(words: readonly string[]): Promise<number> {
  const given = parseLine(words, OPTIONS);
  const plain = await plainAnswer(given);
  if (plain !== undefined) {
    process.stdout.write(plain);
    return 0;
  }
  const line = withProgram(given);
  const [plugin, ...parameters] = line.operands as [string, ...string[]];
  const activatedSockets = takeActivation(process.env);
  if (activatedSockets > 0) checkActivation(line.options);
  const config = parseConfig(line.options, plugin, parameters, activatedSockets);
  const inheritance = takeInheritance(process.env, activatedSockets);
  addon().ownProcess(inheritance);
  process.umask(0o022);
  openLog(config);
  configureLog(config);
  if (await answerAboutPlugin(line, config)) return 0;
  if (config.listen.kind === "stdio") refuseClosed(inheritance.closedStreams);
  const readyFd = takeReadiness();
  if (config.background && readyFd === undefined) return launch(inheritance);
  return serve(config, readyFd);
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
