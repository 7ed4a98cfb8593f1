// A request, from when it is made until it is settled, and what its reply has told so far.

import {
  type Command,
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_FLAG_DF,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  OPERATIONS,
  type OperationName,
} from "../protocol.js";
import { NbdError, requestErrorCode } from "./errors.js";
import { broken } from "./rules.js";

export const COMMAND_NAMES = Object.fromEntries(
  Object.entries(OPERATIONS).map(([name, command]) => [command, name]),
) as Readonly<Record<Command, OperationName>>;

/** Descriptors of one context: what one chunk has told. */
export interface Descriptors {
  readonly lengths: Float64Array;
  readonly flags: BigUint64Array;
}

/** More pieces of one read than this, in no order, and nobody can mean well: each is put in its place. */
const MAX_PIECES = 4096;

/** Ranges that content has covered: sorted, apart, [from, to, from, to, …]. */
class Pieces {
  readonly #ends: number[] = [];

  /** The first index of a bound beyond `at`. */
  #after(at: number): number {
    let low = 0;
    let high = this.#ends.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#ends[middle] as number) <= at) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  add(from: number, to: number): void {
    const ends = this.#ends;
    const index = this.#after(from);
    const isInside = index % 2 === 1;
    const next = ends[index];
    if (isInside || (next !== undefined && next < to))
      broken("content-overlap", `bytes from ${from} to ${to} do`);
    const joinsBefore = ends[index - 1] === from;
    const joinsAfter = next === to;
    if (joinsBefore && joinsAfter) ends.splice(index - 1, 2);
    else if (joinsBefore) ends[index - 1] = to;
    else if (joinsAfter) ends[index] = from;
    else ends.splice(index, 0, from, to);
    if (ends.length > 2 * MAX_PIECES) broken("content-pieces", `there are over ${MAX_PIECES}`);
  }
}

export class Request {
  readonly command: Command;
  readonly flags: number;
  readonly offset: number;
  /** Of its effect. */
  readonly length: number;
  /** What is written, or where to read to. */
  readonly buffer: Uint8Array | undefined;
  /** Block status: ids to be told of. undefined: all. */
  readonly contextIds: readonly number[] | undefined;
  /** Block status: of the one context whose descriptors are kept. */
  readonly keptId: number | undefined;
  /** The system may receive into the buffer: nobody else can have it before the reply. */
  readonly ownsBuffer: boolean;
  /** Once, with or without an error. */
  settle: (error: Error | undefined, request: Request) => void;
  /** Settled already, though the server's reply is still to come. */
  isAbandoned = false;

  /** With the slot, the cookie. */
  sequence = 0;
  slot = 0;

  /** How often it was sent again. */
  repetitions = 0;

  error: NbdError | undefined;
  #errorOffset = -1;
  #covered = 0;
  #pieces: Pieces | undefined;
  #chunks = 0;
  /** Block status: ids that the reply has told of. */
  toldIds: Set<number> | undefined;
  status: Descriptors | undefined;

  constructor(
    command: Command,
    flags: number,
    offset: number,
    length: number,
    buffer: Uint8Array | undefined,
    ownsBuffer: boolean,
    settle: (error: Error | undefined, request: Request) => void,
    contextIds?: readonly number[],
    keptId?: number,
  ) {
    this.command = command;
    this.flags = flags;
    this.offset = offset;
    this.length = length;
    this.buffer = buffer;
    this.ownsBuffer = ownsBuffer;
    this.settle = settle;
    this.contextIds = contextIds;
    this.keptId = keptId;
  }

  /** Of memory in flight. */
  get payloadBytes(): number {
    return this.buffer === undefined ? 0 : this.length;
  }

  get description(): string {
    if (this.command === NBD_CMD_FLUSH) return "flush";
    return `${COMMAND_NAMES[this.command]} of ${this.length} bytes at ${this.offset}`;
  }

  /** Before it is sent again: nothing of a reply has come. */
  repeat(): void {
    this.repetitions++;
    this.error = undefined;
    this.#errorOffset = -1;
    this.#covered = 0;
    this.#pieces = undefined;
    this.#chunks = 0;
    this.toldIds = undefined;
    this.status = undefined;
  }

  checkTakesContent(): void {
    if (this.command !== NBD_CMD_READ)
      broken("content-command", `this answers a ${this.description}`);
  }

  /** By a simple reply. */
  coverAll(): void {
    this.#covered = this.length;
  }

  /** A chunk of content, in bytes from the beginning of the export; checked. */
  cover(offset: bigint, length: number): number {
    this.checkTakesContent();
    const from = Number(offset) - this.offset;
    const to = from + length;
    if (offset > Number.MAX_SAFE_INTEGER || from < 0 || to > this.length)
      broken("content-range", `${length} bytes at ${offset} in a ${this.description}`);
    this.#chunks++;
    if (this.#chunks > 1 && (this.flags & NBD_CMD_FLAG_DF) !== 0)
      broken("content-df", `there are more in a ${this.description}`);
    if (this.#errorOffset >= from && this.#errorOffset < to)
      broken("content-overlap", "content came for a failed range");
    if (this.#chunks > 1 || length < this.length) {
      this.#pieces ??= new Pieces();
      if (this.#chunks > 1 && this.#covered === this.length)
        broken("content-overlap", "the whole range had content already");
      this.#pieces.add(from, to);
    }
    this.#covered += length;
    return from;
  }

  /** A chunk that stands for zeroes. */
  coverHole(offset: bigint, length: number): void {
    const from = this.cover(offset, length);
    if (!this.isAbandoned) this.buffer?.fill(0, from, from + length);
  }

  /** What one chunk has told of a context, checked. Takes much memory: one of perhaps a thousand stays. */
  takeStatus(id: number, descriptors: Descriptors): void {
    if (id === this.keptId) this.status = descriptors;
  }

  /** The first error is the one that is told. */
  fail(value: number, words: string, offset: bigint | undefined): void {
    let at: number | undefined;
    if (offset !== undefined) {
      at = Number(offset);
      if (at < this.offset || at >= this.offset + this.length)
        broken("error-offset", `${offset} in a ${this.description}`);
      this.#errorOffset = at - this.offset;
    }
    this.error ??= new NbdError(
      requestErrorCode(value),
      COMMAND_NAMES[this.command],
      this.description,
      words,
      at,
    );
  }

  /** The last chunk is there. */
  checkWhole(contextIds: ReadonlySet<number>): void {
    if (this.error !== undefined) return;
    if (this.command === NBD_CMD_READ && this.#covered < this.length)
      broken("content-whole", `${this.#covered} of ${this.length} bytes came`);
    if (this.command !== NBD_CMD_BLOCK_STATUS) return;
    const asked = this.contextIds ?? [...contextIds];
    const missing = asked.find((id) => !this.toldIds?.has(id));
    if (missing !== undefined) broken("status-missing", `the one with the id ${missing} is not`);
  }
}
