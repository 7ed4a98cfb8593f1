// Replies, parsed where they were received: every rule is checked, content goes straight to where it
// was asked for, and nothing that a server sends makes us hold more than one status chunk.

import {
  MAX_STRING_BYTES,
  NBD_CMD_READ,
  NBD_EXTENDED_REPLY_MAGIC,
  NBD_REPLY_FLAG_DONE,
  NBD_REPLY_TYPE_BLOCK_STATUS,
  NBD_REPLY_TYPE_BLOCK_STATUS_EXT,
  NBD_REPLY_TYPE_ERROR,
  NBD_REPLY_TYPE_ERROR_OFFSET,
  NBD_REPLY_TYPE_NONE,
  NBD_REPLY_TYPE_OFFSET_DATA,
  NBD_REPLY_TYPE_OFFSET_HOLE,
  NBD_SIMPLE_REPLY_MAGIC,
  NBD_STRUCTURED_REPLY_MAGIC,
} from "../protocol.js";
import type { ExportFacts, ReplyStyle } from "./facts.js";
import type { Request } from "./request.js";
import { broken, stringOf } from "./rules.js";
import { checkStatusLength, takeStatus } from "./status-chunk.js";

/** Error chunks of types to come have more fields: so much more we take. */
const MAX_ERROR_BYTES = 6 + MAX_STRING_BYTES + 1024;

/** From here on, what is left of content is received where it belongs; below, copying is cheaper. */
const MIN_PLACED_BYTES = 16 * 1024;

const FIRST_ERROR_TYPE = 2 ** 15;

/** What the next bytes are. */
const HEADER = 0; // of a simple reply, or a chunk's up to its length
const LENGTH = 1; // of a structured reply's chunk
const DATA_OFFSET = 2; // in front of data
const PAYLOAD = 3; // of a chunk that is no data
type Stage = 0 | 1 | 2 | 3;

/** Requests in flight, by cookie. */
export interface InFlight {
  /** Of the two halves of a cookie. */
  find(high: number, low: number): Request | undefined;
  /** Its reply is whole. */
  answered(request: Request): void;
}

export class ReplyReader {
  readonly #style: ReplyStyle;
  readonly #facts: ExportFacts;
  readonly #inFlight: InFlight;
  readonly #contextIds: ReadonlySet<number>;
  readonly #headerBytes: number;

  #stage: Stage = HEADER;
  #needBytes: number;
  /** The beginning of what `#stage` needs, if it has arrived in parts. */
  #held: Buffer = Buffer.allocUnsafeSlow(64);
  #heldBytes = 0;

  #request: Request | undefined;
  #replyFlags = 0;
  #type = 0;

  /** Content that is yet to come, and where it goes in the request's buffer. */
  #contentLeft = 0;
  #contentAt = 0;
  #placed: Uint8Array | undefined;

  constructor(facts: ExportFacts, inFlight: InFlight) {
    this.#facts = facts;
    this.#style = facts.style;
    this.#inFlight = inFlight;
    this.#contextIds = new Set(facts.contexts.values());
    this.#headerBytes = facts.style === "extended" ? 32 : 16;
    this.#needBytes = this.#headerBytes;
  }

  /** Where the rest of long content can be received; then give receive() the same array. */
  place(): Uint8Array | undefined {
    const { buffer, ownsBuffer } = this.#request ?? {};
    this.#placed =
      this.#contentLeft >= MIN_PLACED_BYTES && buffer !== undefined && ownsBuffer
        ? buffer.subarray(this.#contentAt, this.#contentAt + this.#contentLeft)
        : undefined;
    return this.#placed;
  }

  receive(chunk: Buffer, lengthBytes: number): void {
    let at = chunk === this.#placed ? this.#skip(lengthBytes) : 0;
    while (at < lengthBytes) {
      if (this.#contentLeft > 0) at = this.#copyContent(chunk, at, lengthBytes);
      else if (this.#heldBytes > 0 || lengthBytes - at < this.#needBytes)
        at = this.#hold(chunk, at, lengthBytes);
      else {
        const from = at;
        at += this.#needBytes;
        this.#take(chunk, from);
      }
    }
  }

  /** It has been received in place. */
  #skip(lengthBytes: number): number {
    this.#contentAt += lengthBytes;
    this.#contentLeft -= lengthBytes;
    if (this.#contentLeft === 0) this.#endChunk();
    return lengthBytes;
  }

  #copyContent(chunk: Buffer, at: number, end: number): number {
    const count = Math.min(this.#contentLeft, end - at);
    const request = this.#request as Request;
    if (!request.isAbandoned)
      chunk.copy(request.buffer as Uint8Array, this.#contentAt, at, at + count);
    this.#contentAt += count;
    this.#contentLeft -= count;
    if (this.#contentLeft === 0) this.#endChunk();
    return at + count;
  }

  #hold(chunk: Buffer, at: number, end: number): number {
    const count = Math.min(this.#needBytes - this.#heldBytes, end - at);
    if (this.#held.length < this.#needBytes) {
      const longer = Buffer.allocUnsafeSlow(this.#needBytes);
      this.#held.copy(longer, 0, 0, this.#heldBytes);
      this.#held = longer;
    }
    chunk.copy(this.#held, this.#heldBytes, at, at + count);
    this.#heldBytes += count;
    if (this.#heldBytes === this.#needBytes) {
      this.#heldBytes = 0;
      const held = this.#held;
      if (held.length > 64 * 1024) this.#held = Buffer.allocUnsafeSlow(64);
      this.#take(held, 0);
    }
    return at + count;
  }

  #expect(stage: Stage, bytes: number): void {
    this.#stage = stage;
    this.#needBytes = bytes;
  }

  /** All the bytes of a stage are there. */
  #take(bytes: Buffer, at: number): void {
    switch (this.#stage) {
      case HEADER:
        this.#takeHeader(bytes, at);
        return;
      case LENGTH:
        this.#takeLength(bytes.readUInt32BE(at));
        return;
      case DATA_OFFSET:
        this.#takeDataOffset(bytes.readBigUInt64BE(at));
        return;
      case PAYLOAD: {
        // Before the next header: it may throw, and then there is none.
        this.#takePayload(bytes.subarray(at, at + this.#needBytes));
        this.#endChunk();
        return;
      }
    }
  }

  #takeHeader(bytes: Buffer, at: number): void {
    const magic = bytes.readUInt32BE(at);
    if (magic === NBD_SIMPLE_REPLY_MAGIC) {
      this.#takeSimple(bytes, at);
      return;
    }
    const expected =
      this.#style === "extended" ? NBD_EXTENDED_REPLY_MAGIC : NBD_STRUCTURED_REPLY_MAGIC;
    if (magic !== expected) broken("reply-magic", `it is 0x${magic.toString(16)}`);
    if (this.#style === "simple") broken("reply-chunk", "a chunk came");
    const flags = bytes.readUInt16BE(at + 4);
    if ((flags & ~NBD_REPLY_FLAG_DONE) !== 0)
      broken("reply-flags", `they are 0x${flags.toString(16)}`);
    this.#replyFlags = flags;
    this.#type = bytes.readUInt16BE(at + 6);
    const request = this.#find(bytes, at + 8);
    this.#request = request;
    if (this.#style !== "extended") {
      this.#expect(LENGTH, 4);
      return;
    }
    const offset = bytes.readBigUInt64BE(at + 16);
    if (Number(offset) !== request.offset)
      broken("reply-offset", `it is ${offset} for a ${request.description}`);
    this.#takeLength(Number(bytes.readBigUInt64BE(at + 24)));
  }

  #find(bytes: Buffer, at: number): Request {
    const high = bytes.readUInt32BE(at);
    const low = bytes.readUInt32BE(at + 4);
    const request = this.#inFlight.find(high, low);
    if (request !== undefined) return request;
    return broken("cookie", `0x${bytes.toString("hex", at, at + 8)} is of none`);
  }

  #takeSimple(bytes: Buffer, at: number): void {
    if (this.#style === "extended") broken("reply-simple-extended", "a simple reply came");
    const request = this.#find(bytes, at + 8);
    const isRead = request.command === NBD_CMD_READ;
    if (isRead && this.#style !== "simple")
      broken("reply-simple-read", `this answers a ${request.description}`);
    this.#request = request;
    this.#replyFlags = NBD_REPLY_FLAG_DONE;
    const error = bytes.readUInt32BE(at + 4);
    if (error === 0 && isRead) {
      request.coverAll();
      this.#beginContent(0, request.length);
      return;
    }
    if (error !== 0) request.fail(error, "", undefined);
    this.#endChunk();
  }

  #takeLength(length: number): void {
    const request = this.#request as Request;
    switch (this.#type) {
      case NBD_REPLY_TYPE_NONE:
        if (length > 0 || (this.#replyFlags & NBD_REPLY_FLAG_DONE) === 0)
          broken("chunk-none", `it has ${length} bytes and the flags ${this.#replyFlags}`);
        this.#endChunk();
        return;
      case NBD_REPLY_TYPE_OFFSET_DATA:
        request.checkTakesContent();
        if (length < 9) broken("data-length", `it is ${length - 8} bytes long`);
        if (length - 8 > request.length)
          broken("content-range", `${length - 8} bytes for a ${request.description}`);
        this.#contentAt = length - 8; // until its offset is known
        this.#expect(DATA_OFFSET, 8);
        return;
      case NBD_REPLY_TYPE_OFFSET_HOLE:
        if (length !== 12) broken("hole-length", `it has ${length} bytes`);
        break;
      case NBD_REPLY_TYPE_BLOCK_STATUS:
      case NBD_REPLY_TYPE_BLOCK_STATUS_EXT:
        if ((this.#type === NBD_REPLY_TYPE_BLOCK_STATUS_EXT) !== (this.#style === "extended"))
          broken("status-style", `the replies are ${this.#style}`);
        checkStatusLength(this.#type, length, request);
        break;
      default:
        this.#checkErrorLength(length);
    }
    this.#expect(PAYLOAD, length);
  }

  #checkErrorLength(length: number): void {
    if (this.#type < FIRST_ERROR_TYPE) broken("chunk-type", `it is ${this.#type}`);
    const least = this.#type === NBD_REPLY_TYPE_ERROR_OFFSET ? 14 : 6;
    if (length < least || length > MAX_ERROR_BYTES)
      broken("error-length", `it has ${length} bytes`);
  }

  #takeDataOffset(offset: bigint): void {
    const length = this.#contentAt;
    this.#beginContent((this.#request as Request).cover(offset, length), length);
  }

  #beginContent(at: number, length: number): void {
    this.#contentAt = at;
    this.#contentLeft = length;
    if (length === 0) this.#endChunk();
  }

  #takePayload(payload: Buffer): void {
    const request = this.#request as Request;
    if (this.#type === NBD_REPLY_TYPE_OFFSET_HOLE) {
      const length = payload.readUInt32BE(8);
      if (length === 0) broken("hole-length", "it has no bytes");
      request.coverHole(payload.readBigUInt64BE(0), length);
    } else if (this.#type >= FIRST_ERROR_TYPE) {
      this.#takeError(request, payload);
    } else {
      takeStatus(request, this.#type, payload, this.#facts);
    }
  }

  #takeError(request: Request, payload: Buffer): void {
    const value = payload.readUInt32BE(0);
    if (value === 0) broken("error-zero", `of a ${request.description} it is`);
    const bytes = payload.readUInt16BE(4);
    const hasOffset = this.#type === NBD_REPLY_TYPE_ERROR_OFFSET;
    const isKnown = hasOffset || this.#type === NBD_REPLY_TYPE_ERROR;
    const rest = payload.length - 6 - bytes - (hasOffset ? 8 : 0);
    if (bytes > MAX_STRING_BYTES) broken("string-length", `an error's message has ${bytes} bytes`);
    if (rest < 0 || (isKnown && rest > 0))
      broken("error-length", `${payload.length} bytes with a message of ${bytes}`);
    const words = stringOf(payload.subarray(6, 6 + bytes), MAX_STRING_BYTES, "an error's message");
    request.fail(value, words, hasOffset ? payload.readBigUInt64BE(6 + bytes) : undefined);
  }

  #endChunk(): void {
    this.#expect(HEADER, this.#headerBytes);
    if ((this.#replyFlags & NBD_REPLY_FLAG_DONE) === 0) return;
    const request = this.#request as Request;
    this.#request = undefined;
    request.checkWhole(this.#contextIds);
    this.#inFlight.answered(request);
  }
}
