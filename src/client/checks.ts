// What a program asks of an export, checked before anything is sent: each check returns what is wrong,
// or undefined.

import { types } from "node:util";
import { NbdError } from "./errors.js";
import type { ExportFacts } from "./facts.js";

export class Checks {
  readonly #facts: ExportFacts;

  constructor(facts: ExportFacts) {
    this.#facts = facts;
  }

  /** Other arrays would be cut, and texts become zeroes. */
  static bytes(operation: string, bytes: unknown): TypeError | undefined {
    if (types.isUint8Array(bytes)) return undefined;
    return new TypeError(`${operation}: bytes must be a Buffer or another Uint8Array`);
  }

  range(operation: string, offset: number, length: number): Error | undefined {
    if (!Number.isSafeInteger(offset) || !Number.isSafeInteger(length) || offset < 0 || length < 0)
      return new TypeError(
        `${operation}: offset and length must be whole numbers of bytes, at least 0`,
      );
    const { sizeBytes, blockSizes } = this.#facts;
    if (offset + length > sizeBytes)
      return new RangeError(
        `${operation} of ${length} bytes at ${offset} goes beyond the export's end at ${sizeBytes}`,
      );
    const { minimum } = blockSizes;
    if (offset % minimum === 0 && length % minimum === 0) return undefined;
    return new RangeError(
      `${operation} of ${length} bytes at ${offset}: the server only takes multiples of ${minimum}`,
    );
  }

  offered(operation: string, isOffered: boolean, what: string): NbdError | undefined {
    if (isOffered) return undefined;
    return new NbdError("ENOTSUP", operation, `the server does not offer ${what}`);
  }

  fua(operation: string, { fua = false }: { readonly fua?: boolean }): NbdError | undefined {
    return this.offered(operation, !fua || this.#facts.canFua, "FUA");
  }

  /** Such a read is not divided: its request has to say its length. */
  wholeRead(
    length: number,
    { whole = false }: { readonly whole?: boolean },
    maxBytes: number,
  ): RangeError | undefined {
    if (!whole || length <= maxBytes) return undefined;
    return new RangeError(
      `read of ${length} bytes: one request can read at most ${maxBytes} bytes in one piece`,
    );
  }
}
