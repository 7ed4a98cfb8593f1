// --completion=SHELL prints a script for the shell, which calls --completion=words for each word.

import { filterNames } from "../filters/resolve.js";
import { FILTER_PREFIX, PLUGIN_PREFIX, packageNames } from "../plugins/packages.js";
import { isShortName, pluginNames } from "../plugins/resolve.js";
import { type Completions, completionText, NOTHING, wordsWith } from "./completions.js";
import type { ParsedLine } from "./getopt.js";
import { OPTIONS, type OptionSpec, SHOWN_OPTIONS } from "./options.js";
import { type HelpParameter, parametersOf } from "./plugin-help.js";

type WithoutHead = Omit<Completions, "head">;

/** `operands`: of "words", the line after the command, up to the cursor. */
export const serverCompletionText = (shell: string, operands: readonly string[]): Promise<string> =>
  completionText(shell, operands, {
    specs: OPTIONS,
    offered: () => SHOWN_OPTIONS,
    value: valueCompletions,
    operand: operandCompletions,
  });

async function valueCompletions({ completes }: OptionSpec, value: string): Promise<WithoutHead> {
  if (completes === undefined) return NOTHING;
  if (completes === "filter") return filterCompletions(value);
  if (typeof completes === "string") return { ...NOTHING, kind: completes };
  return { ...NOTHING, words: wordsWith(completes, value) };
}

async function filterCompletions(start: string): Promise<WithoutHead> {
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
