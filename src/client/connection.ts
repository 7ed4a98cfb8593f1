// One connection in the transmission phase: requests out, replies in, each to its request.

import { NBD_CMD_DISC } from "../protocol.js";
import type { Channel, Receiver } from "./channel.js";
import type { ExportFacts } from "./facts.js";
import { type InFlight, ReplyReader } from "./reply-reader.js";
import type { Request } from "./request.js";
import { RequestWriter } from "./request-writer.js";
import { broken, ProtocolError } from "./rules.js";

/** How long a server may take to close once NBD_CMD_DISC is sent; then we do. */
const CLOSE_TIMEOUT_MS = 5_000;

export interface Owner {
  /** Its reply is whole: settle it. */
  answered(request: Request): void;
  /** The connection is over, with requests that have had no reply. */
  lost(connection: Connection, unanswered: readonly Request[], error: Error): void;
}

export class Connection implements Receiver, InFlight {
  readonly facts: ExportFacts;
  readonly #channel: Channel;
  readonly #owner: Owner;
  readonly #reader: ReplyReader;
  readonly #writer: RequestWriter;
  /** A cookie's low half is an index here. */
  readonly #slots: (Request | undefined)[] = [];
  readonly #freeSlots: number[] = [];
  #sequence = 0;
  inFlight = 0;
  #isFlushDue = false;
  #isDisconnecting = false;
  #onEnd: ((error: Error) => void) | undefined;
  #endedBy: Error | undefined;

  constructor(channel: Channel, facts: ExportFacts, owner: Owner) {
    this.facts = facts;
    this.#channel = channel;
    this.#owner = owner;
    this.#reader = new ReplyReader(facts, this);
    this.#writer = new RequestWriter(channel, facts.style === "extended");
  }

  /** Why it is over, if it is. */
  get endedBy(): Error | undefined {
    return this.#endedBy;
  }

  /** `first`: bytes that came behind the handshake. */
  start(first: Buffer): void {
    this.#channel.receiver = this;
    if (first.length === 0) return;
    try {
      this.receive(first, first.length);
    } catch (error) {
      this.destroy(error as Error);
    }
  }

  /** Throws, and has changed nothing, if the request cannot be encoded. */
  send(request: Request): void {
    const slot = this.#freeSlots.at(-1) ?? this.#slots.length;
    const sequence = (this.#sequence + 1) >>> 0;
    request.slot = slot;
    request.sequence = sequence;
    this.#writer.add(request);
    this.#freeSlots.pop();
    this.#slots[slot] = request;
    this.#sequence = sequence;
    this.inFlight++;
    this.#flushSoon();
  }

  /** After all that the promises of this turn of the event loop may still send. */
  #flushSoon(): void {
    if (this.#isFlushDue) return;
    this.#isFlushDue = true;
    process.nextTick(() => {
      this.#isFlushDue = false;
      if (this.#endedBy === undefined) this.#writer.flush();
    });
  }

  find(high: number, low: number): Request | undefined {
    const request = this.#slots[low];
    return request?.sequence === high ? request : undefined;
  }

  answered(request: Request): void {
    this.#slots[request.slot] = undefined;
    this.#freeSlots.push(request.slot);
    this.inFlight--;
    this.#owner.answered(request);
  }

  receive(buffer: Buffer, lengthBytes: number): void {
    if (this.#isDisconnecting) broken("disconnect-reply", `${lengthBytes} bytes do`);
    this.#reader.receive(buffer, lengthBytes);
  }

  place(): Uint8Array | undefined {
    return this.#reader.place();
  }

  ended(error: Error): void {
    this.#endedBy = error;
    const unanswered = this.#slots.filter((request) => request !== undefined);
    this.#slots.length = 0;
    this.inFlight = 0;
    this.#owner.lost(this, unanswered, error);
    this.#onEnd?.(error);
  }

  /**
   * Leaves as the specification asks: nothing may be in flight. Resolves when all is over; rejects
   * with a ProtocolError only.
   */
  disconnect(): Promise<void> {
    if (this.#endedBy !== undefined) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.#channel.destroy(), CLOSE_TIMEOUT_MS);
      this.#onEnd = (error) => {
        clearTimeout(timer);
        if (error instanceof ProtocolError) reject(error);
        else resolve();
      };
      this.#writer.addBare(NBD_CMD_DISC);
      this.#writer.flush();
      this.#isDisconnecting = true;
      this.#channel.finish();
    });
  }

  /** At once: what is in flight has no reply. */
  destroy(error: Error): void {
    this.#channel.destroy(error);
  }
}
