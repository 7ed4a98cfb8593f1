// Splits a command line as getopt_long does: options and operands in any order, abbreviations,
// clusters of short options, and "--".

import type { GivenOptions } from "../config/given-options.js";
import { didYouMean } from "../config/nearest.js";
import { UsageError } from "../errors.js";
import type { OptionSpec } from "./options.js";

export interface ParsedLine {
  readonly options: GivenOptions;
  /** Options and their values as they were given. */
  readonly optionWords: readonly string[];
  /** What is no option: the plugin, then its parameters. */
  readonly operands: readonly string[];
}

interface Occurrence {
  readonly name: string;
  readonly value: string | undefined;
}

class Occurrences implements GivenOptions {
  readonly #list: readonly Occurrence[];
  constructor(list: readonly Occurrence[]) {
    this.#list = list;
  }
  has(option: string): boolean {
    return this.#list.some(({ name }) => name === option);
  }
  last(option: string): string | undefined {
    return this.#list.findLast(({ name }) => name === option)?.value;
  }
  all(option: string): readonly string[] {
    return this.#list.filter(({ name }) => name === option).map(({ value }) => value ?? "");
  }
  lastOf(...options: string[]): string | undefined {
    return this.#list.findLast(({ name }) => options.includes(name))?.name;
  }
}

/** permute false: options end at the first operand, as with POSIXLY_CORRECT. */
export function parseLine(
  words: readonly string[],
  specs: readonly OptionSpec[],
  permute = process.env.POSIXLY_CORRECT === undefined,
): ParsedLine {
  const occurrences: Occurrence[] = [];
  const optionWords: string[] = [];
  const operands: string[] = [];
  const rest = [...words];
  const take = (given: Occurrence[], at: number): void => {
    occurrences.push(...given);
    optionWords.push(...words.slice(at, words.length - rest.length));
  };
  for (let word = rest.shift(); word !== undefined; word = rest.shift()) {
    const at = words.length - rest.length - 1;
    if (word === "--") {
      operands.push(...rest.splice(0));
    } else if (word.startsWith("--")) {
      take([parseLong(word.slice(2), specs, rest)], at);
    } else if (word.startsWith("-") && word !== "-") {
      take(parseCluster(word.slice(1), specs, rest), at);
    } else {
      operands.push(word);
      if (!permute) operands.push(...rest.splice(0));
    }
  }
  return { options: new Occurrences(occurrences), optionWords, operands };
}

const longNames = (spec: OptionSpec): string[] => [spec.name, ...(spec.aliases ?? [])];

function findLong(given: string, specs: readonly OptionSpec[]): OptionSpec {
  const exact = specs.find((spec) => longNames(spec).includes(given));
  if (exact !== undefined) return exact;
  const matches = specs.filter((spec) => longNames(spec).some((name) => name.startsWith(given)));
  // What abbreviates one of nbdkit's options must go on doing so, whatever we add.
  const standard = matches.filter(({ isAddition }) => !isAddition);
  const candidates = standard.length > 0 ? standard : matches;
  if (candidates.length === 1) return candidates[0] as OptionSpec;
  if (matches.length === 0) {
    const known = specs.filter(({ help }) => help !== undefined).flatMap(longNames);
    const hint = didYouMean(given, known, (name) => `--${name}`);
    throw new UsageError(`unknown option --${given}${hint}`);
  }
  const names = candidates.map(({ name }) => `--${name}`).join(", ");
  throw new UsageError(`option --${given} is ambiguous: it could be ${names}`);
}

/** `text` is NAME or NAME=VALUE; a value may also be the next word, taken from `rest`. */
function parseLong(text: string, specs: readonly OptionSpec[], rest: string[]): Occurrence {
  const equals = text.indexOf("=");
  const given = equals === -1 ? text : text.slice(0, equals);
  const spec = findLong(given, specs);
  if (spec.value === undefined) {
    if (equals !== -1) throw new UsageError(`option --${spec.name} takes no value`);
    return { name: spec.name, value: undefined };
  }
  const value = equals === -1 ? rest.shift() : text.slice(equals + 1);
  if (value === undefined) throw new UsageError(`option --${spec.name} needs a value`);
  return { name: spec.name, value };
}

/** Letters of options without values, the last of which may have one. */
function parseCluster(letters: string, specs: readonly OptionSpec[], rest: string[]): Occurrence[] {
  const occurrences: Occurrence[] = [];
  for (let i = 0; i < letters.length; i++) {
    const spec = specs.find(({ short }) => short === letters[i]);
    if (spec === undefined) throw new UsageError(`unknown option -${letters[i]}`);
    if (spec.value === undefined) {
      occurrences.push({ name: spec.name, value: undefined });
      continue;
    }
    const attached = letters.slice(i + 1);
    const value = attached === "" ? rest.shift() : attached;
    if (value === undefined) throw new UsageError(`option -${letters[i]} needs a value`);
    occurrences.push({ name: spec.name, value });
    break;
  }
  return occurrences;
}
