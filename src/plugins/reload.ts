// What is told of a plugin that is watched.

import type { AsyncnbdError } from "../errors.js";

/** A new version of a plugin's file has taken over, or could not: then the old one stays. */
export interface Reload {
  readonly path: string;
  readonly error: AsyncnbdError | undefined;
  /** How many clients keep an old version until they disconnect, as their export would change. */
  readonly clientsLeft: number;
}
