// The options of a command line, split but not yet checked.

import { UsageError } from "../errors.js";
import { parseInteger } from "./integer.js";

/** Every occurrence of every option, in order, by its main name without dashes. */
export interface GivenOptions {
  has(option: string): boolean;
  /** The last occurrence's value. */
  last(option: string): string | undefined;
  all(option: string): readonly string[];
  /** Of several options, the name of the one given last. */
  lastOf(...options: string[]): string | undefined;
}

/** The last value of one that takes a whole number. */
export function integer(
  given: GivenOptions,
  option: string,
  minimum: number,
  maximum: number,
): number | undefined {
  const text = given.last(option);
  if (text === undefined) return undefined;
  const value = parseInteger(text);
  // nbdkit takes no minus here, not even before a zero.
  if (text.includes("-") || !(value >= minimum && value <= maximum))
    throw new UsageError(`--${option}=${text} is not a whole number from ${minimum} to ${maximum}`);
  return value;
}
