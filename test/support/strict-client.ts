// An NBD client that holds the server to the specification: it speaks simple, structured and
// extended replies, checks every rule of every reply, and fails the test if one is broken.

import { RawClient, type RequestFields, u16, u32, u64 } from "./raw-client.js";

export type Style = "simple" | "structured" | "extended";

export const OPT = {
  EXPORT_NAME: 1,
  ABORT: 2,
  LIST: 3,
  STARTTLS: 5,
  INFO: 6,
  GO: 7,
  STRUCTURED_REPLY: 8,
  LIST_META_CONTEXT: 9,
  SET_META_CONTEXT: 10,
  EXTENDED_HEADERS: 11,
} as const;

export const REP = {
  ACK: 1,
  SERVER: 2,
  INFO: 3,
  META_CONTEXT: 4,
  ERR_UNSUP: 2 ** 31 + 1,
  ERR_POLICY: 2 ** 31 + 2,
  ERR_INVALID: 2 ** 31 + 3,
  ERR_PLATFORM: 2 ** 31 + 4,
  ERR_TLS_REQD: 2 ** 31 + 5,
  ERR_UNKNOWN: 2 ** 31 + 6,
  ERR_TOO_BIG: 2 ** 31 + 9,
  ERR_EXT_HEADER_REQD: 2 ** 31 + 10,
} as const;

export const CMD = {
  READ: 0,
  WRITE: 1,
  DISC: 2,
  FLUSH: 3,
  TRIM: 4,
  CACHE: 5,
  WRITE_ZEROES: 6,
  BLOCK_STATUS: 7,
} as const;

export const FLAG = {
  FUA: 1,
  NO_HOLE: 2,
  DF: 4,
  REQ_ONE: 8,
  FAST_ZERO: 16,
  PAYLOAD_LEN: 32,
} as const;

export const ERRNO = { EPERM: 1, EIO: 5, ENOMEM: 12, EINVAL: 22, ENOSPC: 28, ENOTSUP: 95 } as const;

const CHUNK = {
  NONE: 0,
  OFFSET_DATA: 1,
  OFFSET_HOLE: 2,
  BLOCK_STATUS: 5,
  BLOCK_STATUS_EXT: 6,
  ERROR: 2 ** 15 + 1,
  ERROR_OFFSET: 2 ** 15 + 2,
} as const;

const DONE = 1;
const SIMPLE_MAGIC = 0x67446698;
const STRUCTURED_MAGIC = 0x668e33ef;
const EXTENDED_REQUEST_MAGIC = 0x21e41c71;
const EXTENDED_REPLY_MAGIC = 0x6e8a278c;
const ERRORS = new Set([1, 5, 12, 22, 28, 75, 95, 108]);
const MAX_STRING_BYTES = 4096;

export interface StrictRequest extends Omit<RequestFields, "length"> {
  /** Of the effect; a write's is that of its payload. */
  readonly length?: number | bigint;
  /** Extended headers: ids of contexts, in a payload. */
  readonly onlyContexts?: readonly number[];
}

/** Lengths and flags. */
export type Extents = [length: bigint, flags: bigint][];

export interface StrictReply {
  /** 0: success. */
  error: number;
  errorText: string;
  errorOffset: bigint | undefined;
  /** Of a read; holes are zeroes. */
  data: Buffer;
  /** Of a read. */
  holes: { offset: bigint; length: number }[];
  /** By context id. */
  statuses: Map<number, Extents>;
  /** Content chunks of a read. */
  contentChunks: number;
}

export interface StrictOptions {
  readonly style?: Style;
  readonly contexts?: readonly string[];
  readonly exportName?: string;
  /** For NBD_OPT_GO. */
  readonly infos?: readonly number[];
}

function check(holds: boolean, rule: string): asserts holds {
  if (!holds) throw new Error(`the server breaks a rule: ${rule}`);
}

const text = (value: string): Buffer =>
  Buffer.concat([u32(Buffer.byteLength(value)), Buffer.from(value)]);

/** The data of NBD_OPT_SET_META_CONTEXT and NBD_OPT_LIST_META_CONTEXT. */
export const contextQueries = (exportName: string, ...names: readonly string[]): Buffer =>
  Buffer.concat([text(exportName), u32(names.length), ...names.map(text)]);

/** A reply on its way, and what is needed to judge it. */
interface Expected {
  readonly request: StrictRequest;
  readonly lengthBytes: bigint;
  readonly reply: StrictReply;
  /** Covered by content chunks, [begin, end). */
  readonly covered: [bigint, bigint][];
}

export class StrictClient {
  readonly raw: RawClient;
  readonly style: Style;
  sizeBytes = 0n;
  flags = 0;
  /** Ids by name, of contexts that were selected. */
  readonly contexts = new Map<string, number>();
  /** Infos of NBD_OPT_GO by type. */
  readonly infos = new Map<number, Buffer>();
  #nextCookie = 0x7000_0000_0000_0001n;
  readonly #expected = new Map<bigint, Expected>();

  private constructor(raw: RawClient, style: Style) {
    this.raw = raw;
    this.style = style;
  }

  /** Past the handshake. `where`: see RawClient; or a client that has been greeted already. */
  static async connect(
    where: string | number | RawClient,
    { style = "simple", contexts = [], exportName = "", infos = [] }: StrictOptions = {},
  ): Promise<StrictClient> {
    const raw = where instanceof RawClient ? where : await RawClient.connect(where);
    if (!(where instanceof RawClient)) await raw.greet();
    const client = new StrictClient(raw, style);
    if (style === "structured") await client.#acknowledged(OPT.STRUCTURED_REPLY);
    if (style === "extended") await client.#acknowledged(OPT.EXTENDED_HEADERS);
    if (contexts.length > 0) await client.#selectContexts(exportName, contexts);
    await client.#go(exportName, infos);
    return client;
  }

  async #acknowledged(option: number): Promise<void> {
    this.raw.sendOption(option);
    const reply = await this.raw.readOptionReply();
    check(reply.type === REP.ACK && reply.data.length === 0, `option ${option} is acknowledged`);
  }

  async #selectContexts(exportName: string, names: readonly string[]): Promise<void> {
    this.raw.sendOption(OPT.SET_META_CONTEXT, contextQueries(exportName, ...names));
    const ids = new Set<number>();
    for (;;) {
      const { type, data } = await this.raw.readOptionReply();
      if (type === REP.ACK) return;
      check(type === REP.META_CONTEXT, "only contexts come before the acknowledgement");
      const id = data.readUInt32BE(0);
      check(!ids.has(id), "context ids are unique");
      ids.add(id);
      this.contexts.set(data.toString("utf8", 4), id);
    }
  }

  async #go(exportName: string, infos: readonly number[]): Promise<void> {
    const name = text(exportName);
    this.raw.sendOption(OPT.GO, Buffer.concat([name, u16(infos.length), ...infos.map(u16)]));
    for (;;) {
      const { type, data } = await this.raw.readOptionReply();
      if (type === REP.ACK) break;
      if (type !== REP.INFO) throw new Error(`NBD_OPT_GO: 0x${type.toString(16)} ${data}`);
      this.infos.set(data.readUInt16BE(0), data.subarray(2));
    }
    const exported = this.infos.get(0);
    check(exported?.length === 10, "NBD_INFO_EXPORT comes before the acknowledgement");
    this.sizeBytes = exported.readBigUInt64BE(0);
    this.flags = exported.readUInt16BE(8);
    check((this.flags & 1) !== 0, "NBD_FLAG_HAS_FLAGS is always set");
    check((this.flags & 128) === 0 || this.style !== "simple", "DF needs structured replies");
    const hasPayload = (this.flags & 4096) !== 0;
    check(!hasPayload || this.style === "extended", "status payloads need extended headers");
    const fastNeedsZero = (this.flags & 2048) === 0 || (this.flags & 64) !== 0;
    check(fastNeedsZero, "FAST_ZERO comes with WRITE_ZEROES");
  }

  /** Sends requests together, and resolves with their replies in the order of the requests. */
  async requests(...requests: readonly StrictRequest[]): Promise<StrictReply[]> {
    const encoded: Uint8Array[] = [];
    const replies = requests.map((request) => {
      const cookie = request.cookie ?? this.#nextCookie++;
      const expected = this.#expect({ ...request, cookie });
      encoded.push(...this.#encode(expected));
      return expected.reply;
    });
    this.raw.send(...encoded);
    while (this.#expected.size > 0) await this.#readReply();
    return replies;
  }

  async request(request: StrictRequest): Promise<StrictReply> {
    return (await this.requests(request))[0] as StrictReply;
  }

  async read(offset: bigint, length: number, flags = 0): Promise<StrictReply> {
    return this.request({ type: CMD.READ, offset, length, flags });
  }

  /** Leaves as a client should. */
  async disconnect(): Promise<void> {
    this.raw.send(...this.#encode(this.#expect({ type: CMD.DISC, cookie: 0n })));
    this.#expected.clear();
    const rest = await this.raw.closed();
    check(rest.length === 0, "NBD_CMD_DISC has no reply");
    this.raw.socket.destroy();
  }

  #expect(request: StrictRequest & { cookie: bigint }): Expected {
    check(!this.#expected.has(request.cookie), "(of ours) cookies are unique");
    const lengthBytes = BigInt(request.length ?? request.payload?.length ?? 0);
    const reply: StrictReply = {
      error: 0,
      errorText: "",
      errorOffset: undefined,
      data: Buffer.alloc(
        request.type === CMD.READ && lengthBytes < 2n ** 30n ? Number(lengthBytes) : 0,
      ),
      holes: [],
      statuses: new Map(),
      contentChunks: 0,
    };
    const expected = { request, lengthBytes, reply, covered: [] };
    this.#expected.set(request.cookie, expected);
    return expected;
  }

  #encode({ request, lengthBytes }: Expected): Uint8Array[] {
    let { flags = 0, payload = new Uint8Array() } = request;
    let length = lengthBytes;
    if (request.onlyContexts !== undefined) {
      payload = Buffer.concat([u64(lengthBytes), ...request.onlyContexts.map(u32)]);
      length = BigInt(payload.length);
      flags |= FLAG.PAYLOAD_LEN;
    } else if (request.type === CMD.WRITE && this.style === "extended" && payload.length > 0) {
      flags |= FLAG.PAYLOAD_LEN;
    }
    const isExtended = this.style === "extended";
    const header = Buffer.alloc(isExtended ? 32 : 28);
    header.writeUInt32BE(request.magic ?? (isExtended ? EXTENDED_REQUEST_MAGIC : 0x25609513), 0);
    header.writeUInt16BE(flags, 4);
    header.writeUInt16BE(request.type, 6);
    header.writeBigUInt64BE(request.cookie ?? 0n, 8);
    header.writeBigUInt64BE(request.offset ?? 0n, 16);
    if (isExtended) header.writeBigUInt64BE(length, 24);
    else header.writeUInt32BE(Number(length), 24);
    return [header, payload];
  }

  // ---- replies -------------------------------------------------------------------------------

  async #readReply(): Promise<void> {
    const magic = (await this.raw.read(4)).readUInt32BE(0);
    if (magic === SIMPLE_MAGIC) await this.#readSimple();
    else await this.#readChunk(magic);
  }

  #expectedFor(cookie: bigint): Expected {
    const expected = this.#expected.get(cookie);
    check(expected !== undefined, `cookie 0x${cookie.toString(16)} is one that is outstanding`);
    return expected;
  }

  async #readSimple(): Promise<void> {
    const rest = await this.raw.read(12);
    const cookie = rest.readBigUInt64BE(4);
    const { request, reply } = this.#expectedFor(cookie);
    check(this.style !== "extended", "there are no simple replies with extended headers");
    const isRead = request.type === CMD.READ;
    check(this.style === "simple" || !isRead, "a read gets no simple reply once it is structured");
    reply.error = rest.readUInt32BE(0);
    check(reply.error === 0 || ERRORS.has(reply.error), "errors are those of the specification");
    if (isRead && reply.error === 0) reply.data = await this.raw.read(reply.data.length);
    this.#expected.delete(cookie);
  }

  async #readChunk(magic: number): Promise<void> {
    const isExtended = this.style === "extended";
    check(magic === (isExtended ? EXTENDED_REPLY_MAGIC : STRUCTURED_MAGIC), "the magic fits");
    check(this.style !== "simple", "chunks are for clients that know them");
    const rest = await this.raw.read(isExtended ? 28 : 16);
    const flags = rest.readUInt16BE(0);
    const type = rest.readUInt16BE(2);
    const cookie = rest.readBigUInt64BE(4);
    const expected = this.#expectedFor(cookie);
    if (isExtended) {
      const offset = rest.readBigUInt64BE(12);
      check(offset === (expected.request.offset ?? 0n), "a reply repeats its request's offset");
    }
    const bytes = isExtended ? Number(rest.readBigUInt64BE(20)) : rest.readUInt32BE(12);
    check((flags & ~DONE) === 0, "unknown reply flags are not set");
    const payload = await this.raw.read(bytes);
    this.#takeChunk(expected, type, payload, (flags & DONE) !== 0);
    if ((flags & DONE) === 0) return;
    this.#checkWhole(expected);
    this.#expected.delete(cookie);
  }

  #takeChunk(expected: Expected, type: number, payload: Buffer, isLast: boolean): void {
    const { request } = expected;
    switch (type) {
      case CHUNK.NONE:
        check(payload.length === 0 && isLast, "a chunk of type none is empty, and the last");
        return;
      case CHUNK.OFFSET_DATA:
        check(payload.length >= 9, "a data chunk has at least one byte");
        this.#takeContent(expected, payload.readBigUInt64BE(0), payload.subarray(8));
        return;
      case CHUNK.OFFSET_HOLE: {
        check(payload.length === 12, "a hole chunk has 12 bytes");
        const hole = { offset: payload.readBigUInt64BE(0), length: payload.readUInt32BE(8) };
        check(hole.length > 0, "a hole is not empty");
        this.#takeContent(expected, hole.offset, Buffer.alloc(hole.length));
        expected.reply.holes.push(hole);
        return;
      }
      case CHUNK.BLOCK_STATUS:
      case CHUNK.BLOCK_STATUS_EXT:
        check(request.type === CMD.BLOCK_STATUS, "statuses answer NBD_CMD_BLOCK_STATUS");
        check((type === CHUNK.BLOCK_STATUS_EXT) === (this.style === "extended"), "of the style");
        this.#takeStatus(expected, type, payload);
        return;
      case CHUNK.ERROR:
      case CHUNK.ERROR_OFFSET:
        this.#takeError(expected, type, payload);
        return;
      default:
        check(false, `chunk type ${type} is known`);
    }
  }

  #takeContent(
    { request, lengthBytes, reply, covered }: Expected,
    offset: bigint,
    data: Buffer,
  ): void {
    check(request.type === CMD.READ, "content answers NBD_CMD_READ");
    const begin = request.offset ?? 0n;
    const end = offset + BigInt(data.length);
    check(offset >= begin && end <= begin + lengthBytes, "content lies in the range asked for");
    const overlaps = covered.some(([from, to]) => offset < to && end > from);
    check(!overlaps, "content chunks do not overlap");
    covered.push([offset, end]);
    data.copy(reply.data, Number(offset - begin));
    reply.contentChunks++;
    const mayFragment = ((request.flags ?? 0) & FLAG.DF) === 0;
    check(mayFragment || reply.contentChunks === 1, "NBD_CMD_FLAG_DF allows one content chunk");
  }

  #takeError({ request, lengthBytes, reply }: Expected, type: number, payload: Buffer): void {
    const withOffset = type === CHUNK.ERROR_OFFSET;
    check(payload.length >= (withOffset ? 14 : 6), "an error chunk has its fields");
    reply.error = payload.readUInt32BE(0);
    check(ERRORS.has(reply.error), "errors are those of the specification, and not 0");
    const words = payload.readUInt16BE(4);
    check(words <= MAX_STRING_BYTES, "no string is longer than 4096 bytes");
    check(payload.length === 6 + words + (withOffset ? 8 : 0), "an error chunk's length fits");
    reply.errorText = new TextDecoder("utf-8", { fatal: true }).decode(
      payload.subarray(6, 6 + words),
    );
    if (!withOffset) return;
    reply.errorOffset = payload.readBigUInt64BE(6 + words);
    const begin = request.offset ?? 0n;
    const isInside = reply.errorOffset >= begin && reply.errorOffset < begin + lengthBytes;
    check(isInside, "an error's offset lies in the range asked for");
  }

  #takeStatus({ request, lengthBytes, reply }: Expected, type: number, payload: Buffer): void {
    const isExtended = type === CHUNK.BLOCK_STATUS_EXT;
    const [prefix, each] = isExtended ? [8, 16] : [4, 8];
    const isWhole = payload.length > prefix && (payload.length - prefix) % each === 0;
    check(isWhole, "a status chunk has at least one descriptor, and whole ones");
    const id = payload.readUInt32BE(0);
    check([...this.contexts.values()].includes(id), "a status is of a selected context");
    check(!reply.statuses.has(id), "there is one status chunk for a context");
    const extents: Extents = [];
    for (let at = prefix; at < payload.length; at += each)
      extents.push(
        isExtended
          ? [payload.readBigUInt64BE(at), payload.readBigUInt64BE(at + 8)]
          : [BigInt(payload.readUInt32BE(at)), BigInt(payload.readUInt32BE(at + 4))],
      );
    if (isExtended)
      check(payload.readUInt32BE(4) === extents.length, "the descriptor count is right");
    check(
      extents.every(([length]) => length > 0n),
      "no descriptor is empty",
    );
    const before = extents.slice(0, -1).reduce((sum, [length]) => sum + length, 0n);
    check(before < lengthBytes, "only the last descriptor reaches beyond the range");
    if (((request.flags ?? 0) & FLAG.REQ_ONE) !== 0) {
      check(extents.length === 1, "NBD_CMD_FLAG_REQ_ONE gets one descriptor");
      check((extents[0]?.[0] ?? 0n) <= lengthBytes, "no longer than the request");
    }
    const total = before + (extents.at(-1)?.[0] ?? 0n);
    check((request.offset ?? 0n) + total <= this.sizeBytes, "statuses end with the export");
    reply.statuses.set(id, extents);
  }

  #checkWhole({ request, lengthBytes, reply, covered }: Expected): void {
    if (reply.error !== 0) return;
    if (request.type === CMD.READ) {
      const bytes = covered.reduce((sum, [from, to]) => sum + to - from, 0n);
      check(bytes === lengthBytes, "content covers all of the range on success");
    }
    if (request.type === CMD.BLOCK_STATUS) {
      const wanted = request.onlyContexts ?? [...this.contexts.values()];
      const isWhole = wanted.every((id) => reply.statuses.has(id));
      check(isWhole && reply.statuses.size === wanted.length, "each context asked for is answered");
    }
  }
}
