// The code in the documentation: which blocks there are, and what commands they consist of.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import MarkdownIt from "markdown-it";

const root = fileURLToPath(new URL("../../", import.meta.url));

export interface Block {
  readonly file: string;
  readonly language: string;
  readonly text: string;
}

/** What users read first, and who works on this. */
export const DOCUMENTS: readonly string[] = [
  ...["README.md", "CONTRIBUTING.md"],
  ...readdirSync(join(root, "docs"))
    .filter((name) => name.endsWith(".md"))
    .map((name) => `docs/${name}`),
];

const read = (file: string): string => readFileSync(join(root, file), "utf8");

function blocksIn(file: string, markdown: string): Block[] {
  const fences = markdown.matchAll(/^```(\w*)\n(.*?)^```$/gms);
  return [...fences].map(([, language, text]) => ({ file, language, text }) as Block);
}

export const blocksOf = (file: string): Block[] => blocksIn(file, read(file));

/** Of a document's headings of the second level, with the blocks below each. */
export function sectionsOf(file: string): { title: string; blocks: Block[] }[] {
  const [, ...sections] = read(file).split(/^## /m);
  return sections.map((section) => ({
    title: section.slice(0, section.indexOf("\n")),
    blocks: blocksIn(file, section),
  }));
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

const PROGRAMS =
  "asyncnbd nbdkit npm npx node man source strace perf gdb valgrind objdump systemctl systemd-run " +
  "taskset cc openssl qemu-img qemu-io qemu-nbd nbdcopy nbdinfo nbd-client git apt sudo make cp tar";

/** A program with words, or one of this repository's; variables may stand before it. */
const IS_COMMAND = new RegExp(
  `^(?:[A-Z_]+=\\S+ )?(?:(?:${PROGRAMS.replaceAll(" ", "|")}) |scripts/[\\w.-]+|\\.ci/run)`,
);
const parser = new MarkdownIt();

/** Commands in sentences and tables. */
export function commandsInProse(file: string): string[] {
  const inline = parser.parse(read(file), {}).flatMap(({ children }) => children ?? []);
  return inline
    .filter(({ type, content }) => type === "code_inline" && IS_COMMAND.test(content))
    .map(({ content }) => content);
}
