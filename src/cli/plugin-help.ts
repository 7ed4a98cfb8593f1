// The parameters of a plugin and its filters, as --help tells them to people.

import { execFile } from "node:child_process";

export interface HelpParameter {
  readonly key: string;
  /** Its name may be left out. */
  readonly isMagic: boolean;
  /** Words that it can be. */
  readonly values: readonly string[];
  /** What else it can be, if the shell knows that. */
  readonly kind: "file" | "directory" | undefined;
  readonly description: string;
}

/** Nobody who presses a key waits longer. */
const DEADLINE_MS = 8_000;

/** Of what can be opened; none if something cannot. */
export async function parametersOf(
  plugin: string,
  filters: readonly string[],
): Promise<HelpParameter[]> {
  const command = process.argv[1] as string;
  const words = ["--help", ...filters.map((filter) => `--filter=${filter}`), "--", plugin];
  // In a process of its own: a plugin may hang or print as it is loaded.
  const help = await new Promise<string>((resolve) => {
    const options = { timeout: DEADLINE_MS, killSignal: "SIGKILL" as const };
    execFile(command, words, options, (error, stdout) => resolve(error === null ? stdout : ""));
  });
  const start = help.indexOf("\nplugin: ");
  return start === -1 ? [] : merged(help.slice(start).split("\n").flatMap(parametersIn));
}

/** [KEY=]VALUES, perhaps several with commas between; two blanks, or the next line, then why. */
const LINE = /^(\[?[A-Za-z][\w.-]*=\S*(?:, [A-Za-z][\w.-]*=\S*)*)(?:\s+(.*))?$/;

function parametersIn(line: string, index: number, lines: readonly string[]): HelpParameter[] {
  const [, all, beside] = LINE.exec(line) ?? [];
  if (all === undefined) return [];
  const [, below = ""] = /^\s+(\S.*)$/.exec(lines[index + 1] ?? "") ?? [];
  const description = beside || below;
  return all.split(", ").map((one) => {
    const [, bracket, key = "", value = ""] = /^(\[?)([\w.-]+)=\]?(.*)$/.exec(one) ?? [];
    return {
      key,
      isMagic: bracket !== "" || description.includes(`"${key}=" may be left out`),
      values: wordsIn(value),
      kind: kindOf(value),
      description,
    };
  });
}

/** Of default|none, true|false|/PATH or malloc[,mlock=true]; what is in capitals stands for others. */
const wordsIn = (value: string): string[] =>
  value
    .split("|")
    .map((word) => word.replace(/\[.*/, ""))
    .filter((word) => /^(?:[a-z0-9][a-z0-9_-]*|E[A-Z]+)$/.test(word));

function kindOf(value: string): HelpParameter["kind"] {
  if (/DIR/i.test(value)) return "directory";
  return /FILE|PATH|SOCKET|IMAGE|DISK/i.test(value) ? "file" : undefined;
}

/** One that has several lines. */
function merged(parameters: readonly HelpParameter[]): HelpParameter[] {
  const byKey = new Map<string, HelpParameter>();
  for (const parameter of parameters) {
    const first = byKey.get(parameter.key);
    const values = [...(first?.values ?? []), ...parameter.values];
    byKey.set(parameter.key, { ...parameter, ...first, values });
  }
  return [...byKey.values()];
}
