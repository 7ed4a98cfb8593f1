// The code in the documentation: which blocks there are, and what commands they consist of.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../../", import.meta.url));

export interface Block {
  readonly file: string;
  readonly language: string;
  readonly text: string;
}

/** What users read first. */
export const DOCUMENTS: readonly string[] = [
  "README.md",
  ...readdirSync(join(root, "docs"))
    .filter((name) => name.endsWith(".md"))
    .map((name) => `docs/${name}`),
];

const read = (file: string): string => readFileSync(join(root, file), "utf8");

export function blocksOf(file: string): Block[] {
  const fences = read(file).matchAll(/^```(\w*)\n(.*?)^```$/gms);
  return [...fences].map(([, language, text]) => ({ file, language, text }) as Block);
}

/** Code that is marked by four spaces only, of which nobody knows the language. */
export function indentedCode(file: string): string[] {
  const prose = read(file).replace(/^```.*?^```$/gms, "");
  return [...prose.matchAll(/\n\n {4}(\S.*)/g)].map(([, line]) => line as string);
}

/**
 * Those behind a prompt; a backslash at the end of a line continues it, and what is exported is so for
 * the next.
 */
export function commandsOf({ text }: Block): string[] {
  const lines = text.replaceAll("\\\n", "\\\0").split("\n");
  const commands = lines
    .filter((line) => line.startsWith("$ "))
    .map((line) => line.slice(2).replaceAll("\\\0", "\\\n"));
  return commands.flatMap((command, i) => {
    if (command.startsWith("export ")) return [];
    const before = commands[i - 1];
    return before?.startsWith("export ") ? [`${before}\n${command}`] : [command];
  });
}
