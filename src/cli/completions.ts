// What can stand in place of the word at the cursor, by a command's table of options, in the form in
// which the scripts of shells get it.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { packageDirectory } from "../addon/addon.js";
import { UsageError } from "../errors.js";
import { type ParsedLine, parseLine } from "./getopt.js";
import type { OptionSpec } from "./options.js";

/** Each is for asyncnbd and asyncnbd-client, and asks whichever is on the line. */
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
  /** Without the head. One that ends with "=" or "/" wants something behind it. */
  readonly words: readonly Word[];
}

interface Word {
  readonly text: string;
  readonly description?: string;
}

export const NOTHING: Completions = { kind: "none", head: "", words: [] };

/** What a command knows of its line. */
export interface Completer {
  /** All that it understands. */
  readonly specs: readonly OptionSpec[];
  /** Those that make sense behind these words. */
  readonly offered: (before: readonly string[]) => readonly OptionSpec[];
  /** Of an option's value, without the head. */
  readonly value: (spec: OptionSpec, value: string) => Promise<Omit<Completions, "head">>;
  /** Of an operand, the last of the line. */
  readonly operand: (line: ParsedLine, current: string) => Promise<Completions>;
}

/** `operands`: of "words", the line after the command, up to the cursor. */
export async function completionText(
  shell: string,
  operands: readonly string[],
  completer: Completer,
): Promise<string> {
  if (shell === "words") return format(await completionsOf(operands, completer));
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

async function completionsOf(
  words: readonly string[],
  { specs, offered, value: ofValue, operand }: Completer,
): Promise<Completions> {
  const before = words.slice(0, -1);
  const current = words.at(-1) ?? "";
  let line: ParsedLine;
  try {
    line = parseLine([...before, current + CURSOR], specs);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    return current.startsWith("-") ? optionNames(current, offered(before)) : NOTHING;
  }
  const spec = specs.find(({ name }) => line.options.last(name)?.endsWith(CURSOR));
  if (spec === undefined) return operand(line, current);
  const value = (line.options.last(spec.name) as string).slice(0, -CURSOR.length);
  const head = current.slice(0, current.length - value.length);
  return { ...(await ofValue(spec, value)), head };
}

/** Other names of an option only where its main name does not fit. */
function optionNames(current: string, offered: readonly OptionSpec[]): Completions {
  const fitting = (names: (spec: OptionSpec) => readonly string[]): Word[] =>
    offered.flatMap((spec) =>
      names(spec)
        .map((name) => `--${name}${spec.value === undefined ? "" : "="}`)
        .filter((text) => text.startsWith(current))
        .map((text) => ({ text, description: spec.help as string })),
    );
  const main = fitting(({ name }) => [name]);
  return { ...NOTHING, words: main.length > 0 ? main : fitting(({ aliases }) => aliases ?? []) };
}

export const wordsWith = (texts: readonly string[], start: string): Word[] =>
  [...new Set(texts)]
    .filter((text) => text.startsWith(start))
    .sort()
    .map((text) => ({ text }));
