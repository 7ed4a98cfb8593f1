// An NBD client that can be as wrong as a test wants: bytes out, exact bytes in.

import { connect, type Socket } from "node:net";
import { type ConnectionOptions, connect as connectTls } from "node:tls";
import { onTestFinished } from "vitest";
import {
  IHAVEOPT,
  NBD_REP_MAGIC,
  NBD_REQUEST_MAGIC,
  NBD_SIMPLE_REPLY_MAGIC,
  NBD_STRUCTURED_REPLY_MAGIC,
  NBDMAGIC,
} from "../../src/protocol.js";
import { joined, text, u16, u32, u64 } from "./bytes.js";
import { CMD, INFO, OPT, REP } from "./protocol.js";

const PATIENCE_MS = 20_000;

export interface OptionReply {
  readonly option: number;
  readonly type: number;
  readonly data: Buffer;
}

export interface Reply {
  readonly error: number;
  readonly cookie: bigint;
}

/** A chunk of a structured reply. */
export interface Chunk {
  readonly flags: number;
  readonly type: number;
  readonly cookie: bigint;
  readonly payload: Buffer;
}

export interface RequestFields {
  readonly type: number;
  readonly flags?: number;
  readonly cookie?: bigint;
  readonly offset?: bigint;
  readonly length?: number;
  readonly magic?: number;
  readonly payload?: Uint8Array;
}

export class RawClient {
  readonly socket: Socket;
  /** For each answer. */
  patienceMs = PATIENCE_MS;
  #chunks: Buffer[] = [];
  #receivedBytes = 0;
  #isEnded = false;
  #wake: () => void = () => {};

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on("data", (chunk: Buffer) => {
      this.#chunks.push(chunk);
      this.#receivedBytes += chunk.length;
      this.#wake();
    });
    const end = () => {
      this.#isEnded = true;
      this.#wake();
    };
    socket.on("end", end);
    socket.on("close", end);
    socket.on("error", end); // a server may reset a client that went too far
    onTestFinished(() => {
      socket.destroy();
    });
  }

  /** `where`: the path of a unix socket, or a TCP port of this machine. */
  static async connect(where: string | number): Promise<RawClient> {
    const socket =
      typeof where === "string"
        ? connect({ path: where, allowHalfOpen: true })
        : connect({ port: where, host: "127.0.0.1", allowHalfOpen: true });
    await new Promise<void>((resolve, reject) => {
      socket.once("connect", resolve);
      socket.once("error", reject);
    });
    return new RawClient(socket);
  }

  /**
   * By NBD_OPT_STARTTLS: the same client, encrypted, and no longer this one. Rejects if either side
   * refuses the other.
   */
  async startTls(options: ConnectionOptions = {}, injected = new Uint8Array()): Promise<RawClient> {
    this.sendOption(OPT.STARTTLS);
    if (injected.length > 0) this.send(injected);
    const { type } = await this.readOptionReply();
    if (type !== REP.ACK) throw new Error(`NBD_OPT_STARTTLS was refused: 0x${type.toString(16)}`);
    this.socket.removeAllListeners();
    const secure = connectTls({ socket: this.socket, rejectUnauthorized: false, ...options });
    await new Promise<void>((resolve, reject) => {
      secure.once("secureConnect", resolve);
      secure.once("error", reject);
      secure.once("end", () => reject(new Error("the server has closed the connection")));
    });
    return new RawClient(secure);
  }

  /** Past the handshake: requests may follow. */
  static async open(where: string | number, exportName = ""): Promise<RawClient> {
    const client = await RawClient.connect(where);
    await client.go(exportName);
    return client;
  }

  send(...parts: Uint8Array[]): void {
    this.socket.write(Buffer.concat(parts));
  }

  /** Exactly that many bytes; rejects if the server closes before, or takes too long. */
  async read(bytes: number): Promise<Buffer> {
    await this.#until(() => this.#receivedBytes >= bytes);
    if (this.#receivedBytes < bytes)
      throw new Error(`the server closed after ${this.#receivedBytes} of ${bytes} bytes`);
    const received = this.#takeAll();
    this.#chunks = [received.subarray(bytes)];
    this.#receivedBytes = received.length - bytes;
    return received.subarray(0, bytes);
  }

  /** What has arrived, one byte at least; rejects as read() does. */
  async readSome(): Promise<Buffer> {
    await this.#until(() => this.#receivedBytes > 0);
    if (this.#receivedBytes === 0) throw new Error("the server closed with requests unanswered");
    return this.#takeAll();
  }

  /** Resolves with what was left unread when the server closes the connection. */
  async closed(): Promise<Buffer> {
    await this.#until(() => false);
    return this.#takeAll();
  }

  #takeAll(): Buffer {
    const all = Buffer.concat(this.#chunks);
    this.#chunks = [];
    this.#receivedBytes = 0;
    return all;
  }

  async #until(done: () => boolean): Promise<void> {
    const deadline = Date.now() + this.patienceMs;
    while (!done() && !this.#isEnded) {
      const leftMs = deadline - Date.now();
      if (leftMs <= 0) throw new Error("the server neither answers nor closes");
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
        setTimeout(resolve, leftMs).unref();
      });
    }
  }

  /** Greeting in, client flags out. Returns the server's flags. */
  async greet(clientFlags = 3): Promise<number> {
    const greeting = await this.read(18);
    if (greeting.readBigUInt64BE(0) !== NBDMAGIC) throw new Error("no NBDMAGIC");
    if (greeting.readBigUInt64BE(8) !== IHAVEOPT) throw new Error("no IHAVEOPT");
    this.send(u32(clientFlags));
    return greeting.readUInt16BE(16);
  }

  sendOption(option: number, data: Uint8Array = new Uint8Array(), lengthBytes = data.length): void {
    this.send(encodeOption(option, data, lengthBytes));
  }

  async readOptionReply(): Promise<OptionReply> {
    const header = await this.read(20);
    if (header.readBigUInt64BE(0) !== NBD_REP_MAGIC) throw new Error("no option reply");
    return {
      option: header.readUInt32BE(8),
      type: header.readUInt32BE(12),
      data: await this.read(header.readUInt32BE(16)),
    };
  }

  /** Through the handshake by NBD_OPT_GO. Returns the export's size and flags. */
  async go(name = ""): Promise<{ sizeBytes: bigint; flags: number }> {
    await this.greet();
    this.sendOption(OPT.GO, goData(name));
    let facts = { sizeBytes: 0n, flags: 0 };
    for (;;) {
      const { type, data } = await this.readOptionReply();
      if (type === REP.ACK) return facts;
      if (type !== REP.INFO)
        throw new Error(`NBD_OPT_GO was refused: 0x${type.toString(16)} ${data}`);
      if (data.readUInt16BE(0) === INFO.EXPORT)
        facts = { sizeBytes: data.readBigUInt64BE(2), flags: data.readUInt16BE(10) };
    }
  }

  /** As a client should, with all replies read. */
  async leave(): Promise<void> {
    this.sendRequest({ type: CMD.DISC });
    await this.closed();
  }

  /** What is there; the read must succeed. */
  async readAt(offset: bigint, length: number): Promise<Buffer> {
    const error = await this.request({ type: CMD.READ, offset, length });
    if (error !== 0) throw new Error(`a read fails with ${error}`);
    return this.read(length);
  }

  /** So many reads of 512 bytes, sent together; all must succeed. */
  async readTogether(count: number): Promise<void> {
    const cookies = Array.from({ length: count }, (_, i) => BigInt(i));
    this.send(...cookies.map((cookie) => encodeRequest({ type: CMD.READ, length: 512, cookie })));
    for (const _ of cookies) {
      const { error } = await this.readReply();
      if (error !== 0) throw new Error(`a read fails with ${error}`);
      await this.read(512);
    }
  }

  sendRequest(fields: RequestFields): void {
    this.send(encodeRequest(fields), fields.payload ?? new Uint8Array());
  }

  async readReply(): Promise<Reply> {
    const header = await this.read(16);
    if (header.readUInt32BE(0) !== NBD_SIMPLE_REPLY_MAGIC) throw new Error("no simple reply");
    return { error: header.readUInt32BE(4), cookie: header.readBigUInt64BE(8) };
  }

  /** Of a structured reply, with all of its payload. */
  async readChunk(): Promise<Chunk> {
    const header = await this.read(20);
    if (header.readUInt32BE(0) !== NBD_STRUCTURED_REPLY_MAGIC)
      throw new Error("no structured reply");
    return {
      flags: header.readUInt16BE(4),
      type: header.readUInt16BE(6),
      cookie: header.readBigUInt64BE(8),
      payload: await this.read(header.readUInt32BE(16)),
    };
  }

  /** Sends one request that carries no data back, and awaits its reply. Returns the error. */
  async request(fields: RequestFields): Promise<number> {
    this.sendRequest(fields);
    const { error, cookie } = await this.readReply();
    if (cookie !== (fields.cookie ?? 0n)) throw new Error(`a reply to another request: ${cookie}`);
    return error;
  }
}

export const encodeOption = (
  option: number,
  data: Uint8Array = new Uint8Array(),
  lengthBytes = data.length,
): Buffer => joined([u64(IHAVEOPT), u32(option), u32(lengthBytes), data]);

export function encodeRequest(fields: RequestFields): Buffer {
  const header = Buffer.alloc(28);
  header.writeUInt32BE(fields.magic ?? NBD_REQUEST_MAGIC, 0);
  header.writeUInt16BE(fields.flags ?? 0, 4);
  header.writeUInt16BE(fields.type, 6);
  header.writeBigUInt64BE(fields.cookie ?? 0n, 8);
  header.writeBigUInt64BE(fields.offset ?? 0n, 16);
  header.writeUInt32BE(fields.length ?? fields.payload?.length ?? 0, 24);
  return header;
}

/** The data of NBD_OPT_INFO and NBD_OPT_GO. */
export function goData(name: string, infos: readonly number[] = []): Buffer {
  return joined([text(name), u16(infos.length), ...infos.map(u16)]);
}
