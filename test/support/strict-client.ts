// An NBD client that may ask for what is wrong, and holds the server to the specification: replies go
// through the reader of asyncnbd/client, which checks every rule, and a few more are checked here.

import { capabilitiesOf, checkFlags, DEFAULT_BLOCK_SIZES } from "../../src/client/facts.js";
import { ReplyReader } from "../../src/client/reply-reader.js";
import { type Descriptors, Request } from "../../src/client/request.js";
import type { Command } from "../../src/protocol.js";
import * as nbd from "../../src/protocol.js";
import { text, u32, u64 } from "./bytes.js";
import { CMD, ERRNO, FLAG, INFO, OPT, REP } from "./protocol.js";
import { goData, RawClient, type RequestFields } from "./raw-client.js";

export type Style = "simple" | "structured" | "extended";

/** Clients take others for EINVAL; a server has no reason to send them. */
const ERRORS: ReadonlySet<number> = new Set(Object.values(ERRNO));

/** A read longer than this is refused by every server: nothing is kept for it. */
const MAX_READ_BYTES = 2 ** 30;

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
  /** Of a structured read. */
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

/** The data of NBD_OPT_SET_META_CONTEXT and NBD_OPT_LIST_META_CONTEXT. */
export const contextQueries = (exportName: string, ...names: readonly string[]): Buffer =>
  Buffer.concat([text(exportName), u32(names.length), ...names.map(text)]);

const nobody = (): void => {};

/** A request of a test's, whose reply is kept whole. */
class StrictRequestInFlight extends Request {
  readonly cookie: bigint;
  readonly reply: StrictReply;

  constructor(request: StrictRequest, cookie: bigint) {
    const length = Number(request.length ?? request.payload?.length ?? 0);
    const isKept = request.type === CMD.READ && length < MAX_READ_BYTES;
    const data = Buffer.alloc(isKept ? length : 0);
    const offset = Number(request.offset ?? 0n);
    const { type, flags = 0, onlyContexts } = request;
    super(type as Command, flags, offset, length, data, true, nobody, onlyContexts);
    this.cookie = cookie;
    this.reply = {
      error: 0,
      errorText: "",
      errorOffset: undefined,
      data,
      holes: [],
      statuses: new Map(),
      contentChunks: 0,
    };
  }

  override cover(offset: bigint, length: number): number {
    this.reply.contentChunks++;
    return super.cover(offset, length);
  }

  override coverHole(offset: bigint, length: number): void {
    super.coverHole(offset, length);
    this.reply.holes.push({ offset, length });
  }

  override takeStatus(id: number, { lengths, flags }: Descriptors): void {
    if ((this.flags & FLAG.REQ_ONE) !== 0) {
      check(lengths.length === 1, "NBD_CMD_FLAG_REQ_ONE gets one descriptor");
      check((lengths[0] as number) <= this.length, "no longer than the request");
    }
    const extents = [...lengths].map((length, i): [bigint, bigint] => [
      BigInt(length),
      flags[i] as bigint,
    ]);
    this.reply.statuses.set(id, extents);
  }

  override fail(value: number, words: string, offset: bigint | undefined): void {
    super.fail(value, words, offset);
    check(ERRORS.has(value), "errors are those of the specification, and not 0");
    this.reply.error = value;
    this.reply.errorText = words;
    this.reply.errorOffset = offset;
  }
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
  readonly #inFlight = new Map<bigint, StrictRequestInFlight>();
  #reader: ReplyReader | undefined;

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
    client.#reader = client.#replyReader(exportName);
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
    this.raw.sendOption(OPT.GO, goData(exportName, infos));
    for (;;) {
      const { type, data } = await this.raw.readOptionReply();
      if (type === REP.ACK) break;
      if (type !== REP.INFO) throw new Error(`NBD_OPT_GO: 0x${type.toString(16)} ${data}`);
      this.infos.set(data.readUInt16BE(0), data.subarray(2));
    }
    const exported = this.infos.get(INFO.EXPORT);
    check(exported?.length === 10, "NBD_INFO_EXPORT comes before the acknowledgement");
    this.sizeBytes = exported.readBigUInt64BE(0);
    this.flags = exported.readUInt16BE(8);
    checkFlags(this.flags, this.style);
  }

  #replyReader(exportName: string): ReplyReader {
    const facts = {
      ...capabilitiesOf(this.flags),
      exportName,
      canonicalName: undefined,
      description: undefined,
      sizeBytes: Number(this.sizeBytes),
      flags: this.flags,
      blockSizes: DEFAULT_BLOCK_SIZES,
      hasBlockSizes: false,
      style: this.style,
      contexts: this.contexts,
      isEncrypted: false,
    };
    return new ReplyReader(facts, {
      find: (high, low) => this.#inFlight.get((BigInt(high) << 32n) | BigInt(low)),
      answered: (request) => this.#inFlight.delete((request as StrictRequestInFlight).cookie),
    });
  }

  /** Sends requests together, and resolves with their replies in the order of the requests. */
  async requests(...requests: readonly StrictRequest[]): Promise<StrictReply[]> {
    const encoded: Uint8Array[] = [];
    const replies = requests.map((request) => {
      const cookie = request.cookie ?? this.#nextCookie++;
      check(!this.#inFlight.has(cookie), "(of ours) cookies are unique");
      const inFlight = new StrictRequestInFlight(request, cookie);
      this.#inFlight.set(cookie, inFlight);
      encoded.push(...this.#encode(request, cookie));
      return inFlight.reply;
    });
    this.raw.send(...encoded);
    while (this.#inFlight.size > 0) {
      const bytes = await this.raw.readSome();
      this.#reader?.receive(bytes, bytes.length);
    }
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
    this.raw.send(...this.#encode({ type: CMD.DISC }, 0n));
    const rest = await this.raw.closed();
    check(rest.length === 0, "NBD_CMD_DISC has no reply");
    this.raw.socket.destroy();
  }

  #encode(request: StrictRequest, cookie: bigint): Uint8Array[] {
    const isExtended = this.style === "extended";
    let { flags = 0, payload = new Uint8Array() } = request;
    let length = BigInt(request.length ?? payload.length);
    if (request.onlyContexts !== undefined) {
      payload = Buffer.concat([u64(length), ...request.onlyContexts.map(u32)]);
      length = BigInt(payload.length);
      flags |= FLAG.PAYLOAD_LEN;
    } else if (request.type === CMD.WRITE && isExtended && payload.length > 0) {
      flags |= FLAG.PAYLOAD_LEN;
    }
    const header = Buffer.alloc(isExtended ? 32 : 28);
    const magic = isExtended ? nbd.NBD_EXTENDED_REQUEST_MAGIC : nbd.NBD_REQUEST_MAGIC;
    header.writeUInt32BE(request.magic ?? magic, 0);
    header.writeUInt16BE(flags, 4);
    header.writeUInt16BE(request.type, 6);
    header.writeBigUInt64BE(cookie, 8);
    header.writeBigUInt64BE(request.offset ?? 0n, 16);
    if (isExtended) header.writeBigUInt64BE(length, 24);
    else header.writeUInt32BE(Number(length), 24);
    return [header, payload];
  }
}
