// The handshake's stream of bytes, as a sequence: options out, exact bytes and replies in.

import type { ConnectionOptions } from "node:tls";
import {
  IHAVEOPT,
  MAX_STRING_BYTES,
  NBD_REP_ERR_TLS_REQD,
  NBD_REP_FLAG_ERROR,
  NBD_REP_MAGIC,
} from "../protocol.js";
import type { Channel, Receiver } from "./channel.js";
import { ConnectionError, NbdError, optionErrorCode } from "./errors.js";
import { broken, stringOf } from "./rules.js";

/** More than what a server may send before it was asked for it. */
const MAX_UNREAD_BYTES = 2 ** 20;

/** The longest reply that makes sense: an export's name and description. */
const MAX_REPLY_BYTES = 4 + 2 * MAX_STRING_BYTES;

const REPLY_HEADER_BYTES = 20;

export interface OptionReply {
  readonly type: number;
  readonly data: Buffer;
}

export class OptionStream implements Receiver {
  #channel: Channel;
  #unread: Buffer = Buffer.alloc(0);
  #wanted = 0;
  #resolve: ((bytes: Buffer) => void) | undefined;
  #reject: ((error: Error) => void) | undefined;
  #error: Error | undefined;
  /** Once it is on. */
  isEncrypted = false;

  constructor(channel: Channel) {
    this.#channel = channel;
    channel.receiver = this;
  }

  get channel(): Channel {
    return this.#channel;
  }

  receive(buffer: Buffer, lengthBytes: number): void {
    if (this.#unread.length + lengthBytes > MAX_UNREAD_BYTES)
      throw new ConnectionError("EPROTO", "the server sends more than requested");
    this.#unread = Buffer.concat([this.#unread, buffer.subarray(0, lengthBytes)]);
    this.#deliver();
  }

  ended(error: Error): void {
    this.#error = error;
    this.#reject?.(error);
  }

  #deliver(): void {
    const resolve = this.#resolve;
    if (resolve === undefined || this.#unread.length < this.#wanted) return;
    this.#resolve = undefined;
    this.#reject = undefined;
    resolve(this.takeUnread(this.#wanted));
  }

  /** What has arrived and was not asked for; the transmission's beginning, at the end. */
  takeUnread(bytes = this.#unread.length): Buffer {
    const taken = this.#unread.subarray(0, bytes);
    this.#unread = this.#unread.subarray(bytes);
    return taken;
  }

  read(bytes: number): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      if (this.#unread.length >= bytes) {
        resolve(this.takeUnread(bytes));
        return;
      }
      if (this.#error !== undefined) {
        reject(this.#error);
        return;
      }
      this.#wanted = bytes;
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  send(bytes: Uint8Array): void {
    this.#channel.send([bytes]);
  }

  sendOption(option: number, data: Uint8Array = new Uint8Array()): void {
    const header = Buffer.alloc(16);
    header.writeBigUInt64BE(IHAVEOPT, 0);
    header.writeUInt32BE(option, 8);
    header.writeUInt32BE(data.length, 12);
    this.send(Buffer.concat([header, data]));
  }

  async readReply(option: number): Promise<OptionReply> {
    const header = await this.read(REPLY_HEADER_BYTES);
    const magic = header.readBigUInt64BE(0);
    if (magic !== NBD_REP_MAGIC) broken("option-reply-magic", `it is 0x${magic.toString(16)}`);
    const repeated = header.readUInt32BE(8);
    if (repeated !== option) broken("option-reply-option", `${repeated} instead of ${option}`);
    const type = header.readUInt32BE(12);
    const length = header.readUInt32BE(16);
    const isError = type >= NBD_REP_FLAG_ERROR;
    if (isError && length > MAX_STRING_BYTES)
      broken("string-length", `an error's message has ${length} bytes`);
    if (length > MAX_REPLY_BYTES) broken("option-reply-length", `${length} bytes of type ${type}`);
    if (type === NBD_REP_ERR_TLS_REQD && this.isEncrypted)
      broken("tls-required", `to option ${option}`);
    return { type, data: await this.read(length) };
  }

  async encrypt(options: ConnectionOptions, signal: AbortSignal | undefined): Promise<void> {
    if (this.#unread.length > 0) broken("tls-plain-text", `${this.#unread.length} bytes did`);
    this.#channel = await this.#channel.encrypt(options, signal);
    this.#channel.receiver = this;
    this.isEncrypted = true;
  }
}

/** Of a reply that is an error. */
export function optionError(name: string, { type, data }: OptionReply): NbdError {
  const words = stringOf(data, MAX_STRING_BYTES, "an error's message");
  return new NbdError(optionErrorCode(type), name, `the server refuses ${name}`, words);
}
