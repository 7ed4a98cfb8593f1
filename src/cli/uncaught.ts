// Uncaught exceptions and unhandled promise rejections, as in a plugin's timer: logs them and stops
// the server gracefully.

import { addon } from "../addon/addon.js";
import { AsyncnbdError } from "../errors.js";
import { describeThrown } from "../plugins/script/errno.js";

/** One that throws at every tick would fill the log. */
const MAX_LOGGED = 10;

export class UncaughtErrors {
  /** Resolves at the first. */
  readonly first: Promise<void>;
  #count = 0;

  constructor() {
    let resolve: () => void = () => {};
    this.first = new Promise((resolveFirst) => {
      resolve = resolveFirst;
    });
    const listener = (what: string) => (error: unknown) => {
      if (this.#count++ < MAX_LOGGED)
        addon().logError(`${what}: ${withFrames(error)}\nstopping the server`);
      resolve();
    };
    process.on("uncaughtException", listener("uncaught exception"));
    // Else Node puts reasons that are no errors into an error of its own, with its own words.
    process.on("unhandledRejection", listener("unhandled promise rejection"));
  }

  get haveHappened(): boolean {
    return this.#count > 0;
  }

  /** What is to be done before the server serves; rejects at the first error. */
  async unlessUncaught<T>(work: Promise<T>): Promise<T> {
    work.catch(() => {}); // if it fails later, nobody waits for it
    return Promise.race([work, this.first.then(failed)]);
  }
}

function failed(): never {
  throw new AsyncnbdError("UNCAUGHT_EXCEPTION", "uncaught exception", { isLogged: true });
}

/** If not a line of the stack is the plugin's, the mistake is ours. */
function withFrames(error: unknown): string {
  const text = describeThrown(error);
  return text.includes("\n") || !(error instanceof Error) ? text : (error.stack ?? text);
}
