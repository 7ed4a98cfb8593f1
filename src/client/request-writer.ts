// Requests, encoded one after the other into one buffer, so that those of one turn of the event loop
// leave in one write. Long payloads are sent from where they lie.

import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_FLAG_PAYLOAD_LEN,
  NBD_CMD_WRITE,
  NBD_EXTENDED_REQUEST_MAGIC,
  NBD_REQUEST_MAGIC,
} from "../protocol.js";
import type { Channel } from "./channel.js";
import type { Request } from "./request.js";

const BATCH_BYTES = 64 * 1024;
const LONGEST_HEADER_BYTES = 32;

/** Shorter payloads are copied behind their header. */
const MAX_COPIED_BYTES = 8 * 1024;

const TWO_TO_32 = 2 ** 32;

export class RequestWriter {
  readonly #channel: Channel;
  readonly #isExtended: boolean;
  #batch: Buffer = Buffer.allocUnsafeSlow(BATCH_BYTES);
  #begin = 0; // of what is not among the parts yet
  #end = 0;
  #parts: Uint8Array[] = [];

  constructor(channel: Channel, isExtended: boolean) {
    this.#channel = channel;
    this.#isExtended = isExtended;
  }

  add(request: Request): void {
    const { command, buffer, contextIds } = request;
    if (command === NBD_CMD_WRITE) {
      const flag = this.#isExtended ? NBD_CMD_FLAG_PAYLOAD_LEN : 0;
      this.#header(request, request.flags | flag, request.length);
      this.#payload(buffer as Uint8Array);
    } else if (command === NBD_CMD_BLOCK_STATUS && contextIds !== undefined) {
      const payload = Buffer.alloc(8 + 4 * contextIds.length);
      payload.writeBigUInt64BE(BigInt(request.length), 0);
      for (const [index, id] of contextIds.entries()) payload.writeUInt32BE(id, 8 + 4 * index);
      this.#header(request, request.flags | NBD_CMD_FLAG_PAYLOAD_LEN, payload.length);
      this.#payload(payload);
    } else {
      this.#header(request, request.flags, request.length);
    }
  }

  /** For what has no reply: `command` is NBD_CMD_DISC. */
  addBare(command: number): void {
    this.#write(command, 0, 0, 0, 0, 0);
  }

  #header(request: Request, flags: number, length: number): void {
    const { command, sequence, slot, offset } = request;
    this.#write(command, flags, sequence, slot, offset, length);
  }

  #write(
    command: number,
    flags: number,
    high: number,
    low: number,
    offset: number,
    length: number,
  ): void {
    if (this.#end + LONGEST_HEADER_BYTES > BATCH_BYTES) this.#renew();
    const batch = this.#batch;
    const at = this.#end;
    const magic = this.#isExtended ? NBD_EXTENDED_REQUEST_MAGIC : NBD_REQUEST_MAGIC;
    batch.writeUInt32BE(magic, at);
    batch.writeUInt16BE(flags, at + 4);
    batch.writeUInt16BE(command, at + 6);
    batch.writeUInt32BE(high, at + 8);
    batch.writeUInt32BE(low, at + 12);
    batch.writeUInt32BE(Math.floor(offset / TWO_TO_32), at + 16);
    batch.writeUInt32BE(offset % TWO_TO_32, at + 20);
    if (this.#isExtended) {
      batch.writeUInt32BE(Math.floor(length / TWO_TO_32), at + 24);
      batch.writeUInt32BE(length % TWO_TO_32, at + 28);
      this.#end = at + 32;
    } else {
      batch.writeUInt32BE(length, at + 24);
      this.#end = at + 28;
    }
  }

  #payload(payload: Uint8Array): void {
    if (payload.length <= MAX_COPIED_BYTES) {
      if (this.#end + payload.length > BATCH_BYTES) this.#renew();
      this.#batch.set(payload, this.#end);
      this.#end += payload.length;
      return;
    }
    this.#cut();
    this.#parts.push(payload);
  }

  /** What has been encoded becomes a part. */
  #cut(): void {
    if (this.#end > this.#begin) this.#parts.push(this.#batch.subarray(this.#begin, this.#end));
    this.#begin = this.#end;
  }

  /** A buffer of which all may be written. */
  #renew(): void {
    this.#cut();
    this.#batch = Buffer.allocUnsafeSlow(BATCH_BYTES);
    this.#begin = 0;
    this.#end = 0;
  }

  flush(): void {
    this.#cut();
    if (this.#parts.length === 0) return;
    this.#channel.send(this.#parts);
    this.#parts = [];
    // What the system has not taken yet is still read from the buffer.
    if (this.#channel.isDrained) {
      this.#begin = 0;
      this.#end = 0;
    }
  }
}
