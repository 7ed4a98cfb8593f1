// How --help shows an option.

import type { OptionSpec } from "./options.js";

const WIDTH = 80;
const INDENT = 30;

function wrap(text: string, width: number): string[] {
  const lines = [""];
  for (const word of text.split(" ")) {
    const last = lines[lines.length - 1] as string;
    if (last !== "" && last.length + 1 + word.length > width) lines.push(word);
    else lines[lines.length - 1] = last === "" ? word : `${last} ${word}`;
  }
  return lines;
}

export function optionLines(spec: OptionSpec): string {
  const short = spec.short === undefined ? "    " : `-${spec.short}, `;
  const value = spec.value === undefined ? "" : `=${spec.value}`;
  const left = `  ${short}--${spec.name}${value}`;
  const right = wrap(spec.help as string, WIDTH - INDENT).join(`\n${" ".repeat(INDENT)}`);
  const gap =
    left.length < INDENT - 1 ? " ".repeat(INDENT - left.length) : `\n${" ".repeat(INDENT)}`;
  return left + gap + right;
}
