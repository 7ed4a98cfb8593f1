// copy: many pieces under way at once; what reads as zeroes is not read, and becomes holes.

import { AsyncnbdError } from "../../errors.js";
import {
  type Destination,
  openDestination,
  openSource,
  type Part,
  type Source,
  type Stream,
} from "./places.js";
import { Progress } from "./progress.js";

export interface CopyOptions {
  readonly connections: number;
  readonly requests: number;
  readonly requestBytes: number;
  readonly flushes: boolean;
  readonly destinationIsZero: boolean;
  readonly isAllocated: boolean;
  readonly showsProgress: boolean;
}

/** Zeroes need no memory: they can be longer, but not so long that the bar stands still. */
const MAX_ZERO_BYTES = 128 * 2 ** 20;

/** Divides parts, at multiples of the size. */
async function* piecesOf(source: Source, requestBytes: number): AsyncGenerator<Part, void> {
  for await (const { offset, length, isZero } of source.parts()) {
    const most = isZero ? MAX_ZERO_BYTES : requestBytes;
    for (let at = offset; at < offset + length; ) {
      const end = Math.min(at - (at % most) + most, offset + length);
      yield { offset: at, length: end - at, isZero };
      at = end;
    }
  }
}

function isAllZero(bytes: Buffer): boolean {
  if (bytes.length === 0 || bytes[0] !== 0) return false;
  return bytes.subarray(1).equals(bytes.subarray(0, -1)); // each byte is as the one before it
}

class Copy {
  readonly #to: Destination;
  readonly #options: CopyOptions;
  readonly #progress: Progress;
  /** Of an ordered destination: when what comes before is written. */
  #before: Promise<unknown> = Promise.resolve();

  constructor(to: Destination, options: CopyOptions, progress: Progress) {
    this.#to = to;
    this.#options = options;
    this.#progress = progress;
  }

  async #put(offset: number, length: number, bytes: Buffer | undefined): Promise<void> {
    if (bytes !== undefined && !isAllZero(bytes)) await this.#to.write(offset, bytes);
    else if (!this.#isZeroThere()) await this.#to.zero(offset, length, this.#options.isAllocated);
    this.#progress.add(length);
  }

  #isZeroThere(): boolean {
    const { isAllocated, destinationIsZero } = this.#options;
    return !isAllocated && !this.#to.isOrdered && (this.#to.isZero || destinationIsZero);
  }

  async #piece(from: Source, { offset, length, isZero }: Part): Promise<void> {
    const read = async (): Promise<Buffer | undefined> => {
      if (isZero) return undefined;
      const bytes = Buffer.allocUnsafeSlow(length);
      await from.read(offset, bytes);
      return bytes;
    };
    if (!this.#to.isOrdered) return this.#put(offset, length, await read());
    const before = this.#before;
    const reading = read();
    const put = Promise.all([reading, before]).then(([bytes]) => this.#put(offset, length, bytes));
    this.#before = put;
    await put;
  }

  async all(from: Source): Promise<void> {
    const pieces = piecesOf(from, this.#options.requestBytes);
    const worker = async (): Promise<void> => {
      for await (const piece of { [Symbol.asyncIterator]: () => pieces })
        await this.#piece(from, piece);
    };
    await Promise.all(Array.from({ length: this.#options.requests }, worker));
  }

  async stream({ name, chunks }: Stream): Promise<void> {
    let offset = 0;
    for await (const bytes of chunks) {
      const { sizeBytes } = this.#to;
      if (sizeBytes !== undefined && offset + bytes.length > sizeBytes)
        throw tooSmall(name, this.#to);
      await this.#put(offset, bytes.length, bytes);
      offset += bytes.length;
    }
    await this.#to.end(offset);
  }
}

const tooSmall = (name: string, to: Destination): AsyncnbdError =>
  new AsyncnbdError("CONFIG", `${name} is larger than ${to.name}, which has ${to.sizeBytes} bytes`);

export async function copy(fromName: string, toName: string, options: CopyOptions): Promise<void> {
  const from = await openSource(fromName, options.connections);
  const to = await openDestination(toName, options.connections);
  const sizeBytes = "chunks" in from ? undefined : from.sizeBytes;
  if (sizeBytes !== undefined && to.sizeBytes !== undefined && sizeBytes > to.sizeBytes)
    throw tooSmall(fromName, to);
  await to.prepare(sizeBytes ?? 0);
  const progress = new Progress(sizeBytes, options.showsProgress);
  const work = new Copy(to, options, progress);
  if ("chunks" in from) await work.stream(from);
  else await work.all(from);
  if (options.flushes) await to.flush();
  progress.finish();
  if (!("chunks" in from)) await from.close();
  await to.close();
}
