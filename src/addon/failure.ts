// A failure that native code reports, as an exception.

import { AsyncnbdError, type ErrorCode } from "../errors.js";
import type { Failure } from "./types.js";

export function throwIfFailed(failure: Failure, code: ErrorCode): void {
  if (failure !== undefined)
    throw new AsyncnbdError(code, failure.words, { isLogged: failure.isLogged });
}
