// The command line of a benchmark. The comment that its file begins with is its help.

import { readFileSync } from "node:fs";
import { basename } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

/** Something that the user has to write in another way: the message alone is shown, and no stack. */
export class Misuse extends Error {}

/** @param {string} name of the option @param {string} text */
export function numberOf(name, text) {
  const number = text.trim() === "" ? Number.NaN : Number(text);
  if (Number.isFinite(number) && number >= 0) return number;
  throw new Misuse(`--${name}=${text} is not a number`);
}

/** @param {string} name of the option @param {string} list */
export const numbersOf = (name, list) => list.split(",").map((text) => numberOf(name, text));

/**
 * Splits a list, and refuses words that are not known.
 * @template {string} T
 * @param {string} name of the option @param {string} list @param {readonly T[]} known
 */
export function wordsOf(name, list, known, separator = ",") {
  return list.split(separator).map((word) => {
    const found = known.find((one) => one === word);
    if (found === undefined)
      throw new Misuse(`--${name}=${word}: known are ${known.join(`${separator} `)}`);
    return found;
  });
}

/** Any of the words, separated by `|`. @param {string} words @returns {(name: string) => boolean} */
export const containsAny = (words) => (name) =>
  words.split("|").some((word) => name.includes(word));

/** @param {string} file */
function helpOf(file) {
  const lines = readFileSync(file, "utf8").split("\n");
  const end = lines.findIndex((line) => !line.startsWith("//"));
  return lines.slice(0, end).map((line) => line.replace(/^\/\/ ?/, ""));
}

/** @param {string} name @param {unknown} error */
function endBy(name, error) {
  const isMisuse =
    error instanceof Misuse ||
    (error instanceof Error && `${"code" in error && error.code}`.startsWith("ERR_PARSE_ARGS"));
  if (isMisuse) console.error(`${name}: ${error.message} (see --help)`);
  else console.error(error);
  process.exit(isMisuse ? 2 : 1);
}

/**
 * What the command line says. From here on, misuse ends the program with one sentence and 2.
 * @template {NonNullable<import("node:util").ParseArgsConfig["options"]>} T
 * @param {string} url of the benchmark's file
 * @param {T} options as parseArgs has them. Where the default is a number, so is what is given
 */
export function readOptions(url, options) {
  const file = fileURLToPath(url);
  process.on("uncaughtException", (error) => endBy(basename(file, ".mjs"), error));
  const { values } = parseArgs({ options: { ...options, help: { type: "boolean", short: "h" } } });
  if ("help" in values) {
    console.log(helpOf(file).join("\n"));
    process.exit(0);
  }
  for (const [name, { default: usual }] of Object.entries(options)) {
    const given = /** @type {Record<string, unknown>} */ (values)[name];
    if (typeof usual === "string" && /^[\d.]+$/.test(usual)) numberOf(name, String(given));
  }
  return /** @type {ReturnType<typeof parseArgs<{ options: T }>>["values"]} */ (
    /** @type {unknown} */ (values)
  );
}
