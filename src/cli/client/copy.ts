// copy: many pieces under way at once; what reads as zeroes is not read, and becomes holes.

import { AsyncnbdError, UsageError } from "../../errors.js";
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
async function* piecesOf(
  parts: AsyncIterable<Part> | Iterable<Part>,
  requestBytes: number,
): AsyncGenerator<Part, void> {
  for await (const { offset, length, isZero } of parts) {
    const most = isZero ? MAX_ZERO_BYTES : requestBytes;
    for (let at = offset; at < offset + length; ) {
      const end = Math.min(at - (at % most) + most, offset + length);
      yield { offset: at, length: end - at, isZero };
      at = end;
    }
  }
}

/** What a pipe cuts as it likes, in pieces of the size; the last one is shorter. */
async function* gathered(
  chunks: AsyncIterable<Buffer>,
  requestBytes: number,
): AsyncGenerator<Buffer, void> {
  let piece = Buffer.allocUnsafeSlow(requestBytes);
  let filled = 0;
  for await (const chunk of chunks) {
    for (let at = 0; at < chunk.length; ) {
      const count = chunk.copy(piece, filled, at);
      filled += count;
      at += count;
      if (filled < requestBytes) continue;
      yield piece;
      piece = Buffer.allocUnsafeSlow(requestBytes);
      filled = 0;
    }
  }
  if (filled > 0) yield piece.subarray(0, filled);
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
    const { sizeBytes, minimumBytes } = from;
    // Parts may begin where the destination takes nothing to begin.
    const isCoarser = minimumBytes % this.#to.minimumBytes !== 0;
    const whole = [{ offset: 0, length: sizeBytes, isZero: false }];
    const parts = isCoarser ? whole : from.parts();
    const pieces = piecesOf(parts, this.#options.requestBytes);
    const worker = async (): Promise<void> => {
      for await (const piece of { [Symbol.asyncIterator]: () => pieces })
        await this.#piece(from, piece);
    };
    await Promise.all(Array.from({ length: this.#options.requests }, worker));
  }

  async stream({ name, chunks }: Stream): Promise<void> {
    let offset = 0;
    for await (const bytes of gathered(chunks, this.#options.requestBytes)) {
      const { sizeBytes } = this.#to;
      if (sizeBytes !== undefined && offset + bytes.length > sizeBytes)
        throw tooSmall(name, this.#to);
      checkMultiple(name, offset + bytes.length, this.#to);
      await this.#put(offset, bytes.length, bytes);
      offset += bytes.length;
    }
    await this.#to.end(offset);
  }
}

const tooSmall = (name: string, to: Destination): AsyncnbdError =>
  new AsyncnbdError(
    "DISK_TOO_SMALL",
    `${name} is larger than ${to.name}, which has ${to.sizeBytes} bytes`,
  );

function checkMultiple(name: string, sizeBytes: number, to: Destination): void {
  if (sizeBytes % to.minimumBytes === 0) return;
  const what = `${name} has ${sizeBytes} bytes, and ${to.name} takes`;
  throw new AsyncnbdError("SIZE_UNALIGNED", `${what} multiples of ${to.minimumBytes} only`);
}

/** Before anything is written. */
function checkTogether(from: Source | Stream, to: Destination, requestBytes: number): void {
  if (from.identity !== undefined && from.identity === to.identity)
    throw new AsyncnbdError("SAME_DISK", `${from.name} and ${to.name} are the same disk`);
  for (const { name, minimumBytes } of [from, to])
    if (requestBytes % minimumBytes !== 0)
      throw new UsageError(`--request-size: ${name} takes multiples of ${minimumBytes} only`);
  if ("chunks" in from) return;
  if (to.sizeBytes !== undefined && from.sizeBytes > to.sizeBytes) throw tooSmall(from.name, to);
  checkMultiple(from.name, from.sizeBytes, to);
}

export async function copy(fromName: string, toName: string, options: CopyOptions): Promise<void> {
  const from = await openSource(fromName, options.connections);
  const to = await openDestination(toName, options.connections);
  checkTogether(from, to, options.requestBytes);
  const sizeBytes = "chunks" in from ? undefined : from.sizeBytes;
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
