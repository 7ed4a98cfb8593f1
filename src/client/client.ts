// The client that programs use: a method for each command of the protocol.

import {
  type Command,
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_CACHE,
  NBD_CMD_FLAG_DF,
  NBD_CMD_FLAG_FAST_ZERO,
  NBD_CMD_FLAG_FUA,
  NBD_CMD_FLAG_NO_HOLE,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
} from "../protocol.js";
import { type BlockStatusOptions, type Extent, extentsOf } from "./block-status.js";
import { Checks } from "./checks.js";
import { closed, type Dispatcher } from "./dispatcher.js";
import type { BlockSizes, ExportFacts, ReplyStyle } from "./facts.js";
import { COMMAND_NAMES, type Descriptors, Request } from "./request.js";

/** No request has a longer payload, whatever a server allows: it would only need more memory. */
const MAX_PAYLOAD_BYTES = 32 * 2 ** 20;

/** The longest effect that 32 bits can say, in blocks of any size. */
const MAX_EFFECT_BYTES = 2 ** 32 - 65536;

export interface RequestOptions {
  /**
   * Rejects the promise with its reason when it fires. The server is not told: a write that was sent
   * may still happen, and its buffer may still be read until the client is closed.
   */
  readonly signal?: AbortSignal | undefined;
}

export interface ReadOptions extends RequestOptions {
  /** The server must answer in one piece, or fail with "EOVERFLOW". */
  readonly whole?: boolean;
}

export interface WriteOptions extends RequestOptions {
  /** On stable storage when the promise resolves. */
  readonly fua?: boolean;
}

export interface ZeroOptions extends WriteOptions {
  /** The range must keep its space: no holes. */
  readonly noHole?: boolean;
  /** Fails with "ENOTSUP", at once, if it would not be faster than writing. */
  readonly fast?: boolean;
}

/** An open export. Made by connect(). */
export class Client implements AsyncDisposable {
  readonly #dispatcher: Dispatcher;
  readonly #facts: ExportFacts;
  readonly #checks: Checks;
  readonly #maxPayloadBytes: number;
  readonly #maxEffectBytes: number;
  #closed: Promise<void> | undefined;

  /** @internal Use connect(). */
  constructor(dispatcher: Dispatcher, facts: ExportFacts) {
    this.#dispatcher = dispatcher;
    this.#facts = facts;
    this.#checks = new Checks(facts);
    const { minimum, maximum } = facts.blockSizes;
    const most = Math.min(maximum, MAX_PAYLOAD_BYTES);
    this.#maxPayloadBytes = Math.max(minimum, most - (most % minimum));
    // Only extended headers have 64 bits, and nothing asks for more than numbers can say.
    this.#maxEffectBytes = facts.style === "extended" ? facts.sizeBytes : MAX_EFFECT_BYTES;
  }

  /** In bytes. */
  get size(): number {
    return this.#facts.sizeBytes;
  }
  /** Whether the export is not read-only. */
  get canWrite(): boolean {
    return this.#facts.canWrite;
  }
  get canFlush(): boolean {
    return this.#facts.canFlush;
  }
  /** Whether writes, zeroes and trims can be on stable storage when they are answered. */
  get canFua(): boolean {
    return this.#facts.canFua;
  }
  get canTrim(): boolean {
    return this.#facts.canTrim;
  }
  get canZero(): boolean {
    return this.#facts.canZero;
  }
  /** Whether zero() has `fast`. */
  get canFastZero(): boolean {
    return this.#facts.canFastZero;
  }
  get canCache(): boolean {
    return this.#facts.canCache;
  }
  /** Whether several connections make sense; see `connections` of connect(). */
  get canMultiConn(): boolean {
    return this.#facts.canMultiConn;
  }
  /** Whether read() has `whole`. */
  get canReadWhole(): boolean {
    return this.#facts.canReadWhole;
  }
  get isRotational(): boolean {
    return this.#facts.isRotational;
  }
  /** "Transmission flags" as the server sent them. */
  get flags(): number {
    return this.#facts.flags;
  }
  /** Offsets and lengths are multiples of the minimum; 1, 4096 and 32 MiB if it announced none. */
  get blockSizes(): BlockSizes {
    return this.#facts.blockSizes;
  }
  /** As it was asked for. */
  get exportName(): string {
    return this.#facts.exportName;
  }
  /** The name that the server gives the export, where it tells. */
  get canonicalName(): string | undefined {
    return this.#facts.canonicalName;
  }
  get description(): string | undefined {
    return this.#facts.description;
  }
  /** Names of the meta contexts that were selected: blockStatus() can be asked for them. */
  get contexts(): readonly string[] {
    return [...this.#facts.contexts.keys()];
  }
  /** How the server replies. */
  get replies(): ReplyStyle {
    return this.#facts.style;
  }
  get isEncrypted(): boolean {
    return this.#facts.isEncrypted;
  }
  /** Open at the moment. */
  get connections(): number {
    return this.#dispatcher.connections;
  }
  /** Requests sent and not answered. */
  get inFlight(): number {
    return this.#dispatcher.inFlight;
  }
  /** Requests that are not sent yet, since there is no room among those in flight. */
  get waiting(): number {
    return this.#dispatcher.waiting;
  }

  /**
   * NBD_CMD_READ. Into a new buffer of that many bytes, or into all of one of yours, which nobody
   * else may touch until the promise settles. What is longer than the server's largest payload is
   * read in parts.
   */
  read(offset: number, length: number, options?: ReadOptions): Promise<Buffer>;
  read<Into extends Uint8Array>(offset: number, into: Into, options?: ReadOptions): Promise<Into>;
  read(
    offset: number,
    into: number | Uint8Array,
    options: ReadOptions = {},
  ): Promise<Buffer | Uint8Array> {
    const length = typeof into === "number" ? into : into?.length;
    const wrong =
      (typeof into === "number" ? undefined : Checks.bytes("read", into)) ??
      this.#checks.range("read", offset, length) ??
      this.#checks.offered("read", !options.whole || this.canReadWhole, "reads in one piece") ??
      this.#checks.wholeRead(length, options, this.#maxEffectBytes);
    if (wrong !== undefined) return Promise.reject(wrong);
    const flags = options.whole ? NBD_CMD_FLAG_DF : 0;
    let buffer: Buffer | Uint8Array;
    try {
      buffer = typeof into === "number" ? Buffer.allocUnsafeSlow(length) : into;
    } catch (error) {
      return Promise.reject(error); // more than a buffer can have
    }
    if (length === 0) return Promise.resolve(buffer);
    const { signal } = options;
    const owns = typeof into === "number" || signal === undefined;
    if (length > this.#maxPayloadBytes && !options.whole)
      return this.#divided(NBD_CMD_READ, flags, offset, length, buffer, signal).then(() => buffer);
    return new Promise((resolve, reject) => {
      this.#start(
        new Request(NBD_CMD_READ, flags, offset, length, buffer, owns, (error) =>
          error === undefined ? resolve(buffer) : reject(error),
        ),
        signal,
      );
    });
  }

  /** NBD_CMD_WRITE. The bytes must not change until the promise settles. */
  write(offset: number, bytes: Uint8Array, options: WriteOptions = {}): Promise<void> {
    const length = bytes?.length;
    const wrong =
      Checks.bytes("write", bytes) ??
      this.#checks.range("write", offset, length) ??
      this.#checks.offered("write", this.canWrite, "writes: it is read-only") ??
      this.#checks.fua("write", options);
    if (wrong !== undefined) return Promise.reject(wrong);
    const flags = options.fua ? NBD_CMD_FLAG_FUA : 0;
    return this.#divided(NBD_CMD_WRITE, flags, offset, length, bytes, options.signal);
  }

  /** NBD_CMD_TRIM: the contents of the range are no longer needed. */
  trim(offset: number, length: number, options: WriteOptions = {}): Promise<void> {
    const wrong =
      this.#checks.range("trim", offset, length) ??
      this.#checks.offered("trim", this.canTrim, "trims") ??
      this.#checks.fua("trim", options);
    if (wrong !== undefined) return Promise.reject(wrong);
    const flags = options.fua ? NBD_CMD_FLAG_FUA : 0;
    return this.#divided(NBD_CMD_TRIM, flags, offset, length, undefined, options.signal);
  }

  /** NBD_CMD_WRITE_ZEROES. */
  zero(offset: number, length: number, options: ZeroOptions = {}): Promise<void> {
    const wrong =
      this.#checks.range("zero", offset, length) ??
      this.#checks.offered("zero", this.canZero, "zeroes") ??
      this.#checks.offered("zero", !options.fast || this.canFastZero, "fast zeroes") ??
      this.#checks.fua("zero", options);
    if (wrong !== undefined) return Promise.reject(wrong);
    const flags =
      (options.fua ? NBD_CMD_FLAG_FUA : 0) |
      (options.noHole ? NBD_CMD_FLAG_NO_HOLE : 0) |
      (options.fast ? NBD_CMD_FLAG_FAST_ZERO : 0);
    return this.#divided(NBD_CMD_WRITE_ZEROES, flags, offset, length, undefined, options.signal);
  }

  /** NBD_CMD_CACHE: the range will be read soon. */
  cache(offset: number, length: number, options: RequestOptions = {}): Promise<void> {
    const wrong =
      this.#checks.range("cache", offset, length) ??
      this.#checks.offered("cache", this.canCache, "prefetching");
    if (wrong !== undefined) return Promise.reject(wrong);
    return this.#divided(NBD_CMD_CACHE, 0, offset, length, undefined, options.signal);
  }

  /**
   * NBD_CMD_FLUSH: what was answered before it was called is on stable storage when it resolves.
   * Rejects with "EIO" if a connection was lost with such writes; see `reconnect` of connect().
   */
  flush(options: RequestOptions = {}): Promise<void> {
    const wrong = this.#checks.offered("flush", this.canFlush, "flushes");
    if (wrong !== undefined) return Promise.reject(wrong);
    return this.#one(NBD_CMD_FLUSH, 0, 0, 0, undefined, options.signal);
  }

  /**
   * NBD_CMD_BLOCK_STATUS: what a meta context says of a range, as extents without gaps, of which no
   * two neighbours have the same flags. Asks as often as it takes, each time the iteration has come
   * to the end of what was told. Throws at once if the range or the context makes no sense.
   */
  blockStatus(
    offset = 0,
    length: number = this.size - offset,
    options: BlockStatusOptions = {},
  ): AsyncIterableIterator<Extent> {
    const { context = "base:allocation", signal } = options;
    const id = this.#facts.contexts.get(context);
    const wrong =
      this.#checks.range("blockStatus", offset, length) ??
      this.#checks.offered("blockStatus", id !== undefined, `the meta context ${context}`);
    if (wrong !== undefined) throw wrong;
    const ids = this.#facts.canNarrowStatus ? [id as number] : undefined;
    const most = this.#maxEffectBytes;
    const ask = (from: number, bytes: number): Promise<Descriptors> =>
      this.#status(from, Math.min(bytes, most), id as number, ids, signal);
    return extentsOf(offset, length, context, ask);
  }

  #status(
    offset: number,
    length: number,
    id: number,
    ids: readonly number[] | undefined,
    signal: AbortSignal | undefined,
  ): Promise<Descriptors> {
    return new Promise((resolve, reject) => {
      const settle = (error: Error | undefined, request: Request): void =>
        error === undefined ? resolve(request.status as Descriptors) : reject(error);
      const what = [NBD_CMD_BLOCK_STATUS, 0, offset, length, undefined, false] as const;
      this.#start(new Request(...what, settle, ids, id), signal);
    });
  }

  /**
   * Takes no more requests, waits for those that were made, and leaves. Resolves when all
   * connections are closed. Rejects only with a ProtocolError, if the server answers the farewell.
   */
  close(): Promise<void> {
    this.#closed ??= this.#dispatcher.close();
    return this.#closed;
  }

  /** At once: what is not answered rejects. */
  destroy(reason: Error = closed()): void {
    this.#dispatcher.destroy(reason);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #start(request: Request, signal: AbortSignal | undefined): void {
    if (signal === undefined) {
      this.#dispatcher.submit(request);
      return;
    }
    if (signal.aborted) {
      request.settle(signal.reason, request);
      return;
    }
    const abort = (): void => this.#dispatcher.abandon(request, signal.reason);
    const { settle } = request;
    request.settle = (error) => {
      signal.removeEventListener("abort", abort);
      settle(error, request);
    };
    signal.addEventListener("abort", abort, { once: true });
    this.#dispatcher.submit(request);
  }

  #one(
    command: Command,
    flags: number,
    offset: number,
    length: number,
    buffer: Uint8Array | undefined,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    return new Promise((resolve, reject) => {
      const settle = (error: Error | undefined): void =>
        error === undefined ? resolve() : reject(error);
      const owns = signal === undefined;
      this.#start(new Request(command, flags, offset, length, buffer, owns, settle), signal);
    });
  }

  /** In parts that the server takes. */
  #divided(
    command: Command,
    flags: number,
    offset: number,
    length: number,
    buffer: Uint8Array | undefined,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const isEffect = buffer === undefined && command !== NBD_CMD_CACHE;
    const most = isEffect ? this.#maxEffectBytes : this.#maxPayloadBytes;
    if (length === 0) return Promise.resolve();
    if (length <= most) return this.#one(command, flags, offset, length, buffer, signal);
    const parts: Promise<void>[] = [];
    for (let at = 0; at < length; at += most) {
      const bytes = Math.min(most, length - at);
      const part = buffer?.subarray(at, at + bytes);
      parts.push(this.#one(command, flags, offset + at, bytes, part, signal));
    }
    // All of them: the buffer is not the caller's before the last has settled.
    return Promise.allSettled(parts).then((results) => {
      const failed = results.find((result) => result.status === "rejected");
      if (failed !== undefined) throw failed.reason;
    });
  }
}

export { COMMAND_NAMES };
