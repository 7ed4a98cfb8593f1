// What can stand where on the line of asyncnbd-client.

import { type Completions, completionText, NOTHING, wordsWith } from "../completions.js";
import { type ParsedLine, parseLine } from "../getopt.js";
import {
  CLIENT_OPTIONS,
  type ClientOptionSpec,
  COMMAND_SPECS,
  type CommandSpec,
  isCommand,
} from "./options.js";

const URIS = ["nbd://", "nbds://", "nbd+unix:///?socket=", "nbds+unix:///?socket="];

/** Parameters of a URI that are paths. */
const PATHS = { socket: "file", "tls-certificates": "directory", "tls-psk-file": "file" } as const;

/** `operands`: of "words", the line after the command, up to the cursor. */
export const clientCompletionText = (shell: string, operands: readonly string[]): Promise<string> =>
  completionText(shell, operands, {
    specs: CLIENT_OPTIONS,
    offered,
    value: async ({ completes }, value) =>
      typeof completes === "object" ? { ...NOTHING, words: wordsWith(completes, value) } : NOTHING,
    operand: async (line, current) => operandCompletions(line, current),
  });

/** Of the command, if there is one already. */
function offered(before: readonly string[]): readonly ClientOptionSpec[] {
  const [name = ""] = commandIn(before);
  return CLIENT_OPTIONS.filter(
    ({ commands }) => commands === undefined || !isCommand(name) || commands.includes(name),
  );
}

function commandIn(words: readonly string[]): readonly string[] {
  try {
    return parseLine(words, CLIENT_OPTIONS).operands;
  } catch {
    return []; // what is wrong with the line, the command says when it is run
  }
}

function operandCompletions({ operands }: ParsedLine, current: string): Completions {
  const [command = "", ...given] = operands;
  if (given.length === 0) return commandNames(current);
  if (!isCommand(command)) return NOTHING;
  const spec: CommandSpec = COMMAND_SPECS[command];
  switch (spec.operands[given.length - 1]) {
    case "URI":
      return uriCompletions(current);
    case "SOURCE":
    case "DESTINATION": {
      const uri = uriCompletions(current);
      return uri.head === "" ? { ...uri, kind: "file" } : uri;
    }
    default:
      return NOTHING;
  }
}

const commandNames = (current: string): Completions => ({
  ...NOTHING,
  words: Object.entries(COMMAND_SPECS)
    .filter(([name]) => name.startsWith(current))
    .map(([text, { help }]) => ({ text, description: help })),
});

function uriCompletions(current: string): Completions {
  const [, head, key] =
    /^(nbds?(?:\+unix)?:\/\/[^?]*\?(?:.*&)?([\w-]+)=)[^&]*$/.exec(current) ?? [];
  if (head === undefined) return { ...NOTHING, words: wordsWith(URIS, current) };
  const kind = Object.hasOwn(PATHS, key as string) ? PATHS[key as keyof typeof PATHS] : "none";
  return { kind, head, words: [] };
}
