// --completion=SHELL prints a script for the shell, which calls --completion=words for each word.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { packageDirectory } from "../addon/addon.js";
import { UsageError } from "../errors.js";
import { filterNames } from "../filters/resolve.js";
import { FILTER_PREFIX, PLUGIN_PREFIX, packageNames } from "../plugins/packages.js";
import { isShortName, pluginNames } from "../plugins/resolve.js";
import { type ParsedLine, parseLine } from "./getopt.js";
import { OPTIONS, type OptionSpec, SHOWN_OPTIONS } from "./options.js";
import { type HelpParameter, parametersOf } from "./plugin-help.js";

const SCRIPTS: Readonly<Record<string, string>> = {
  bash: "asyncnbd.bash",
  zsh: "_asyncnbd",
  fish: "asyncnbd.fish",
};

type Kind = "none" | "file" | "directory" | "user" | "group";

/** What can stand in the place of a word. */
export interface Completions {
  /** What the shell adds by itself. */
  readonly kind: Kind;
  /** What all completions begin with, and is not a part of that: --log= of --log=/var/l. */
  readonly head: string;
  /** Without the head. One that ends with "=" wants a value behind it. */
  readonly words: readonly Word[];
}

interface Word {
  readonly text: string;
  readonly description?: string;
}

const NOTHING: Completions = { kind: "none", head: "", words: [] };

/** `operands`: of "words", the line after the command, up to the cursor. */
export async function completionText(shell: string, operands: readonly string[]): Promise<string> {
  if (shell === "words") return format(await completionsOf(operands));
  const script = SCRIPTS[shell];
  if (script === undefined)
    throw new UsageError(`--completion=${shell}: use ${Object.keys(SCRIPTS).join(", ")}`);
  return readFileSync(join(packageDirectory, "packaging", script), "utf8");
}

/** The first line is the kind and the head, each further one a word and what it means. */
function format({ kind, head, words }: Completions): string {
  const lines = words.map(({ text, description = "" }) => `${head}${text}\t${description}`);
  return [`${kind}\t${head}`, ...lines].map((line) => `${line}\n`).join("");
}

/** No argument can have it: it shows where on the line parsing puts the word at the cursor. */
const CURSOR = "\0";

async function completionsOf(words: readonly string[]): Promise<Completions> {
  const before = words.slice(0, -1);
  const current = words.at(-1) ?? "";
  let line: ParsedLine;
  try {
    line = parseLine([...before, current + CURSOR], OPTIONS);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    return current.startsWith("-") ? optionNames(current) : NOTHING;
  }
  const spec = OPTIONS.find(({ name }) => line.options.last(name)?.endsWith(CURSOR));
  if (spec === undefined) return operandCompletions(line, current);
  const value = (line.options.last(spec.name) as string).slice(0, -CURSOR.length);
  const head = current.slice(0, current.length - value.length);
  return { ...(await valueCompletions(spec, value)), head };
}

/** Other names of an option only where its main name does not fit. */
function optionNames(current: string): Completions {
  const fitting = (names: (spec: OptionSpec) => readonly string[]): Word[] =>
    SHOWN_OPTIONS.flatMap((spec) =>
      names(spec)
        .map((name) => `--${name}${spec.value === undefined ? "" : "="}`)
        .filter((text) => text.startsWith(current))
        .map((text) => ({ text, description: spec.help as string })),
    );
  const main = fitting(({ name }) => [name]);
  return { ...NOTHING, words: main.length > 0 ? main : fitting(({ aliases }) => aliases ?? []) };
}

const wordsWith = (texts: readonly string[], start: string): Word[] =>
  [...new Set(texts)]
    .filter((text) => text.startsWith(start))
    .sort()
    .map((text) => ({ text }));

async function valueCompletions({ completes }: OptionSpec, value: string): Promise<Completions> {
  if (completes === undefined) return NOTHING;
  if (completes === "filter") return { ...(await filterCompletions(value)), head: "" };
  if (typeof completes === "string") return { ...NOTHING, kind: completes };
  return { ...NOTHING, words: wordsWith(completes, value) };
}

async function filterCompletions(start: string): Promise<Omit<Completions, "head">> {
  if (!isShortName(start)) return { kind: "file", words: [] };
  const { FILTERS } = await import("../filters/built-in.js");
  return {
    kind: "none",
    words: wordsWith(
      [...FILTERS.map(({ name }) => name), ...filterNames(), ...packageNames(FILTER_PREFIX)],
      start,
    ),
  };
}

async function operandCompletions(line: ParsedLine, current: string): Promise<Completions> {
  const [plugin, next] = line.operands;
  if (plugin === undefined || next === undefined) {
    const names = isShortName(current) ? [...pluginNames(), ...packageNames(PLUGIN_PREFIX)] : [];
    return { kind: "file", head: "", words: wordsWith(names, current) };
  }
  const parameters = await parametersOf(plugin, line.options.all("filter"));
  const equals = current.indexOf("=");
  return equals === -1
    ? parameterNames(parameters, current)
    : parameterValues(parameters, current.slice(0, equals), current.slice(equals + 1));
}

function parameterNames(parameters: readonly HelpParameter[], current: string): Completions {
  const words = parameters
    .filter(({ key }) => key.startsWith(current))
    .map(({ key, description }) => ({ text: `${key}=`, description }));
  // A value may stand without its name, which mostly is a path.
  const magic = parameters.find(({ isMagic }) => isMagic);
  const kind = magic?.kind ?? (words.length === 0 ? "file" : "none");
  return { kind, head: "", words };
}

function parameterValues(
  parameters: readonly HelpParameter[],
  key: string,
  value: string,
): Completions {
  const parameter = parameters.find((one) => one.key === key);
  const words = wordsWith(parameter?.values ?? [], value);
  return { kind: parameter?.kind ?? "none", head: `${key}=`, words };
}
