// A server that is as wrong as a test wants: the handshake and the replies can each be altered.

import { createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { NBD_REP_MAGIC } from "../../src/protocol.js";
import { temporaryDirectory } from "./server.js";

export const u16 = (value: number): Buffer => {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
};
export const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};
export const u64 = (value: bigint | number): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
};
export const joined = Buffer.concat;

export const SIZE_BYTES = 65536;
export const CONTEXT_ID = 42;
const EXTENDED = 11;
const STRUCTURED = 8;
const SET_CONTEXT = 10;

export interface WireRequest {
  readonly flags: number;
  readonly type: number;
  readonly cookie: Buffer;
  readonly offset: bigint;
  readonly length: number;
  readonly isExtended: boolean;
}

/** Reply to an option. */
export const optionReply = (option: number, type: number, data: Buffer = Buffer.alloc(0)): Buffer =>
  joined([u64(NBD_REP_MAGIC), u32(option), u32(type), u32(data.length), data]);

export interface Wrongs {
  /** Before the greeting of each connection, from 0. */
  readonly admit?: (index: number) => Promise<unknown> | undefined;
  /** It does not close because the client has. */
  readonly staysOpen?: boolean;
  /** Instead of the right greeting. */
  readonly greeting?: Buffer;
  /** Instead of the right replies to an option; undefined: the right ones. */
  readonly option?: (option: number, data: Buffer, socket: Socket) => Buffer | undefined;
  readonly flags?: number;
  readonly blockSizes?: readonly [number, number, number];
  /** To each request but NBD_CMD_DISC; nothing: none. */
  readonly reply?: (request: WireRequest, socket: Socket) => Buffer | undefined;
  /** To NBD_CMD_DISC. */
  readonly farewell?: Buffer;
  readonly sizeBytes?: () => number;
}

/** All that there is, but for what depends on the style. */
export const FLAGS = 1 | 4 | 8 | 32 | 64 | 256 | 1024;

/** A chunk of a structured reply, or of an extended one. */
export function chunk(
  { cookie, offset, isExtended }: WireRequest,
  type: number,
  payload: Buffer = Buffer.alloc(0),
  flags = 1,
): Buffer {
  const magic = u32(isExtended ? 0x6e8a278c : 0x668e33ef);
  const head = [magic, u16(flags), u16(type), cookie];
  if (isExtended) return joined([...head, u64(offset), u64(payload.length), payload]);
  return joined([...head, u32(payload.length), payload]);
}

export const simple = (
  { cookie }: WireRequest,
  error = 0,
  payload: Buffer = Buffer.alloc(0),
): Buffer => joined([u32(0x67446698), u32(error), cookie, payload]);

/** A right reply. */
export function right(request: WireRequest, style: string): Buffer {
  const { type, length, offset } = request;
  const data = Buffer.alloc(type === 0 ? length : 0, 7);
  if (style === "simple") return simple(request, 0, data);
  if (type === 0) return chunk(request, 1, joined([u64(offset), data]));
  if (type !== 7) return chunk(request, 0);
  if (style === "structured")
    return chunk(request, 5, joined([u32(CONTEXT_ID), u32(length), u32(0)]));
  return chunk(request, 6, joined([u32(CONTEXT_ID), u32(1), u64(length), u64(0)]));
}

class Session {
  readonly #socket: Socket;
  readonly #wrongs: Wrongs;
  #unread = Buffer.alloc(0);
  #style = "simple";
  #stage: "flags" | "options" | "requests" = "flags";

  constructor(socket: Socket, wrongs: Wrongs) {
    this.#socket = socket;
    this.#wrongs = wrongs;
    socket.on("error", () => {});
    socket.on("data", (bytes) => {
      this.#unread = joined([this.#unread, bytes]);
      while (this.#step());
    });
    const right = joined([Buffer.from("NBDMAGICIHAVEOPT"), u16(3)]);
    socket.write(wrongs.greeting ?? right);
  }

  #take(bytes: number): Buffer | undefined {
    if (this.#unread.length < bytes) return undefined;
    const taken = this.#unread.subarray(0, bytes);
    this.#unread = this.#unread.subarray(bytes);
    return taken;
  }

  #step(): boolean {
    if (this.#stage === "flags") {
      if (this.#take(4) === undefined) return false;
      this.#stage = "options";
      return true;
    }
    return this.#stage === "options" ? this.#takeOption() : this.#takeRequest();
  }

  #takeOption(): boolean {
    if (this.#unread.length < 16) return false;
    const length = this.#unread.readUInt32BE(12);
    const whole = this.#take(16 + length);
    if (whole === undefined) return false;
    const option = whole.readUInt32BE(8);
    const wrong = this.#wrongs.option?.(option, whole.subarray(16), this.#socket);
    this.#socket.write(wrong ?? this.#rightOption(option));
    return true;
  }

  #rightOption(option: number): Buffer {
    const isKnown = this.#wrongs.option === undefined || option !== EXTENDED;
    if (option === EXTENDED && isKnown) this.#style = "extended";
    if (option === STRUCTURED) this.#style = "structured";
    if (option === SET_CONTEXT) {
      const context = joined([u32(CONTEXT_ID), Buffer.from("base:allocation")]);
      return joined([optionReply(option, 4, context), optionReply(option, 1)]);
    }
    if (option !== 7) return optionReply(option, 1);
    this.#stage = "requests";
    const { flags, blockSizes, sizeBytes } = this.#wrongs;
    const offered = flags ?? FLAGS | (this.#style === "simple" ? 0 : 128);
    const info = joined([u16(0), u64(sizeBytes?.() ?? SIZE_BYTES), u16(offered)]);
    const sizes =
      blockSizes === undefined
        ? Buffer.alloc(0)
        : optionReply(7, 3, joined([u16(3), ...blockSizes.map(u32)]));
    return joined([sizes, optionReply(7, 3, info), optionReply(7, 1)]);
  }

  #takeRequest(): boolean {
    const isExtended = this.#style === "extended";
    const headerBytes = isExtended ? 32 : 28;
    if (this.#unread.length < headerBytes) return false;
    const type = this.#unread.readUInt16BE(6);
    const length = isExtended
      ? Number(this.#unread.readBigUInt64BE(24))
      : this.#unread.readUInt32BE(24);
    const header = this.#take(headerBytes + (type === 1 ? length : 0));
    if (header === undefined) return false;
    if (type === 2) {
      this.#socket.end(this.#wrongs.farewell ?? Buffer.alloc(0));
      return true;
    }
    const request: WireRequest = {
      flags: header.readUInt16BE(4),
      type,
      cookie: Buffer.from(header.subarray(8, 16)),
      offset: header.readBigUInt64BE(16),
      length,
      isExtended,
    };
    const { reply } = this.#wrongs;
    const answer = reply === undefined ? right(request, this.#style) : reply(request, this.#socket);
    if (answer !== undefined) this.#socket.write(answer);
    return true;
  }
}

export interface WrongServer {
  readonly path: string;
  readonly server: Server;
  readonly sockets: Set<Socket>;
}

export async function startWrongServer(wrongs: Wrongs = {}): Promise<WrongServer> {
  const path = join(temporaryDirectory(), "sock");
  const sockets = new Set<Socket>();
  let count = 0;
  const server = createServer({ allowHalfOpen: wrongs.staysOpen ?? false }, (socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
    const admitted = wrongs.admit?.(count++);
    if (admitted === undefined) new Session(socket, wrongs);
    else void admitted.then(() => new Session(socket, wrongs));
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  onTestFinished(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return { path, server, sockets };
}
