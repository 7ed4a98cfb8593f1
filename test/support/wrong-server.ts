// A server that is as wrong as a test wants: the handshake and the replies can each be altered.

import { createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { type ConnectOptions, connect } from "../../src/client/index.js";
import {
  NBD_EXTENDED_REPLY_MAGIC,
  NBD_REP_MAGIC,
  NBD_SIMPLE_REPLY_MAGIC,
  NBD_STRUCTURED_REPLY_MAGIC,
} from "../../src/protocol.js";
import { joined, u16, u32, u64 } from "./bytes.js";
import { CHUNK, CMD, DONE, EXPORT_FLAG, INFO, OPT, REP } from "./protocol.js";
import { temporaryDirectory } from "./server.js";

export const SIZE_BYTES = 65536;
export const CONTEXT_ID = 42;

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
export const FLAGS =
  EXPORT_FLAG.HAS_FLAGS |
  EXPORT_FLAG.SEND_FLUSH |
  EXPORT_FLAG.SEND_FUA |
  EXPORT_FLAG.SEND_TRIM |
  EXPORT_FLAG.SEND_WRITE_ZEROES |
  EXPORT_FLAG.CAN_MULTI_CONN |
  EXPORT_FLAG.SEND_CACHE;

/** A chunk of a structured reply, or of an extended one. */
export function chunk(
  { cookie, offset, isExtended }: WireRequest,
  type: number,
  payload: Buffer = Buffer.alloc(0),
  flags: number = DONE,
): Buffer {
  const magic = u32(isExtended ? NBD_EXTENDED_REPLY_MAGIC : NBD_STRUCTURED_REPLY_MAGIC);
  const head = [magic, u16(flags), u16(type), cookie];
  if (isExtended) return joined([...head, u64(offset), u64(payload.length), payload]);
  return joined([...head, u32(payload.length), payload]);
}

export const simple = (
  { cookie }: WireRequest,
  error = 0,
  payload: Buffer = Buffer.alloc(0),
): Buffer => joined([u32(NBD_SIMPLE_REPLY_MAGIC), u32(error), cookie, payload]);

/** A right reply. */
export function right(request: WireRequest, style: string): Buffer {
  const { type, length, offset } = request;
  const data = Buffer.alloc(type === CMD.READ ? length : 0, 7);
  if (style === "simple") return simple(request, 0, data);
  if (type === CMD.READ) return chunk(request, CHUNK.OFFSET_DATA, joined([u64(offset), data]));
  if (type !== CMD.BLOCK_STATUS) return chunk(request, CHUNK.NONE);
  if (style === "structured")
    return chunk(request, CHUNK.BLOCK_STATUS, joined([u32(CONTEXT_ID), u32(length), u32(0)]));
  return chunk(
    request,
    CHUNK.BLOCK_STATUS_EXT,
    joined([u32(CONTEXT_ID), u32(1), u64(length), u64(0)]),
  );
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
    const isKnown = this.#wrongs.option === undefined || option !== OPT.EXTENDED_HEADERS;
    if (option === OPT.EXTENDED_HEADERS && isKnown) this.#style = "extended";
    if (option === OPT.STRUCTURED_REPLY) this.#style = "structured";
    if (option === OPT.SET_META_CONTEXT) {
      const context = joined([u32(CONTEXT_ID), Buffer.from("base:allocation")]);
      return joined([optionReply(option, REP.META_CONTEXT, context), optionReply(option, REP.ACK)]);
    }
    if (option !== OPT.GO) return optionReply(option, REP.ACK);
    this.#stage = "requests";
    const { flags, blockSizes, sizeBytes } = this.#wrongs;
    const offered = flags ?? FLAGS | (this.#style === "simple" ? 0 : EXPORT_FLAG.SEND_DF);
    const info = joined([u16(INFO.EXPORT), u64(sizeBytes?.() ?? SIZE_BYTES), u16(offered)]);
    const sizes =
      blockSizes === undefined
        ? Buffer.alloc(0)
        : optionReply(OPT.GO, REP.INFO, joined([u16(INFO.BLOCK_SIZE), ...blockSizes.map(u32)]));
    return joined([sizes, optionReply(option, REP.INFO, info), optionReply(option, REP.ACK)]);
  }

  #takeRequest(): boolean {
    const isExtended = this.#style === "extended";
    const headerBytes = isExtended ? 32 : 28;
    if (this.#unread.length < headerBytes) return false;
    const type = this.#unread.readUInt16BE(6);
    const length = isExtended
      ? Number(this.#unread.readBigUInt64BE(24))
      : this.#unread.readUInt32BE(24);
    const header = this.#take(headerBytes + (type === CMD.WRITE ? length : 0));
    if (header === undefined) return false;
    if (type === CMD.DISC) {
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

/** A client that has such a server open, until the test ends. */
export async function opened(wrongs: Wrongs, options: ConnectOptions = {}) {
  const server = await startWrongServer(wrongs);
  const client = await connect({ path: server.path }, options);
  onTestFinished(() => client.destroy());
  return { client, server };
}
