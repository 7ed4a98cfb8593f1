// Sizes that must be powers of two, which parameters alone do not say.

import { AsyncnbdError } from "../../errors.js";

/** The value of the parameter `key`, if it is one. */
export function powerOfTwo(key: string, value: number): number {
  if (!Number.isInteger(Math.log2(value)))
    throw new AsyncnbdError(
      "PARAMETER_INVALID",
      `parameter ${key}=${value}: must be a power of two`,
    );
  return value;
}
