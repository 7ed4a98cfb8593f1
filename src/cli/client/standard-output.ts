// Standard output, of which everything arrives or the command fails.

import { fstatSync, writeSync } from "node:fs";
import { AsyncnbdError } from "../../errors.js";

/** What was printed has not arrived. */
export class OutputError extends AsyncnbdError {
  /** Nobody reads any more. */
  readonly isClosed: boolean;

  constructor(cause: NodeJS.ErrnoException) {
    const { code, message } = cause;
    super("OUTPUT_FAILED", `standard output: ${message}`, { cause });
    this.name = "OutputError";
    this.isClosed = code === "EPIPE";
  }
}

/** Rejects with an OutputError. */
export async function print(what: string | Uint8Array): Promise<void> {
  const bytes = typeof what === "string" ? Buffer.from(what) : what;
  try {
    // Node's stream forgets the rest where a file takes a part, as on a disk that gets full.
    if (fstatSync(1).isFile()) for (let at = 0; at < bytes.length; ) at += writeSync(1, bytes, at);
    else await written(bytes);
  } catch (error) {
    throw new OutputError(error as NodeJS.ErrnoException);
  }
}

const written = (bytes: Uint8Array): Promise<void> =>
  new Promise((resolve, reject) => {
    process.stdout.write(bytes, (error) => (error ? reject(error) : resolve()));
  });
