// The words after the plugin's name: KEY=VALUE, or a bare VALUE for the plugin's magic key.

import { UsageError } from "../errors.js";

export interface Parameter {
  readonly key: string;
  readonly value: string;
}

/** A letter, then letters, digits, dots, underscores and dashes. */
const KEY_AND_VALUE = /^([A-Za-z][A-Za-z0-9._-]*)=(.*)$/s;

/**
 * nbdkit's rules: a word is KEY=VALUE if what precedes the first "=" can be a key. Any other word
 * is the value of `magicKey`; of a plugin in C without one, only the first word may be bare, and
 * is the value of "script".
 */
export function parseParameters(
  words: readonly string[],
  magicKey: string | undefined,
  isInC = true,
): Parameter[] {
  return words.map((word, index) => {
    const match = KEY_AND_VALUE.exec(word);
    if (match !== null) return { key: match[1] as string, value: match[2] as string };
    if (magicKey !== undefined) return { key: magicKey, value: word };
    if (index === 0 && isInC) return { key: "script", value: word };
    throw new UsageError(`"${word}" is not a parameter: expected KEY=VALUE`);
  });
}
