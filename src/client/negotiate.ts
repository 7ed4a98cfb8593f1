// The handshake, from the client's side: a greeting in, options out, an export's facts in.

import { Buffer } from "node:buffer";
import {
  IHAVEOPT,
  MAX_STRING_BYTES,
  NBD_FLAG_C_FIXED_NEWSTYLE,
  NBD_FLAG_C_NO_ZEROES,
  NBD_FLAG_FIXED_NEWSTYLE,
  NBD_FLAG_NO_ZEROES,
  NBD_INFO_BLOCK_SIZE,
  NBD_INFO_DESCRIPTION,
  NBD_INFO_EXPORT,
  NBD_INFO_NAME,
  NBD_OPT_ABORT,
  NBD_OPT_EXPORT_NAME,
  NBD_OPT_EXTENDED_HEADERS,
  NBD_OPT_GO,
  NBD_OPT_INFO,
  NBD_OPT_LIST,
  NBD_OPT_LIST_META_CONTEXT,
  NBD_OPT_SET_META_CONTEXT,
  NBD_OPT_STARTTLS,
  NBD_OPT_STRUCTURED_REPLY,
  NBD_REP_ACK,
  NBD_REP_ERR_UNSUP,
  NBD_REP_FLAG_ERROR,
  NBD_REP_INFO,
  NBD_REP_META_CONTEXT,
  NBD_REP_SERVER,
  NBDMAGIC,
  OLDSTYLE_MAGIC,
} from "../protocol.js";
import { ConnectionError } from "./errors.js";
import {
  type BlockSizes,
  capabilitiesOf,
  checkBlockSizes,
  checkFlags,
  DEFAULT_BLOCK_SIZES,
  type ExportFacts,
  type ReplyStyle,
} from "./facts.js";
import { type OptionReply, type OptionStream, optionError } from "./option-stream.js";
import { broken, stringOf } from "./rules.js";

/** What a hostile server may make us hold. */
const MAX_CONTEXTS = 1024;
const MAX_LIST_BYTES = 32 * 2 ** 20;

/** What an entry of a list takes besides its letters: about the size of its objects. */
const ENTRY_BYTES = 64;

/** How long a server may take to close once NBD_OPT_ABORT is sent; then we do. */
const ABORT_TIMEOUT_MS = 500;

const NAMES: Readonly<Record<number, string>> = {
  [NBD_OPT_LIST]: "NBD_OPT_LIST",
  [NBD_OPT_STARTTLS]: "NBD_OPT_STARTTLS",
  [NBD_OPT_INFO]: "NBD_OPT_INFO",
  [NBD_OPT_GO]: "NBD_OPT_GO",
  [NBD_OPT_STRUCTURED_REPLY]: "NBD_OPT_STRUCTURED_REPLY",
  [NBD_OPT_LIST_META_CONTEXT]: "NBD_OPT_LIST_META_CONTEXT",
  [NBD_OPT_SET_META_CONTEXT]: "NBD_OPT_SET_META_CONTEXT",
  [NBD_OPT_EXTENDED_HEADERS]: "NBD_OPT_EXTENDED_HEADERS",
};

const nameOf = (option: number): string => NAMES[option] ?? `option ${option}`;

export interface Wishes {
  readonly exportName: string;
  readonly structuredReplies: boolean;
  readonly extendedHeaders: boolean;
  readonly contexts: readonly string[];
}

/** An export in a server's list. */
export interface ListedExport {
  readonly name: string;
  /** "" where the server gives none. */
  readonly description: string;
}

/** What a server is before options: undefined if it is of the old style, and has none. */
export interface Greeting {
  readonly isFixed: boolean;
  readonly hasNoZeroes: boolean;
  readonly oldstyle: { sizeBytes: bigint; flags: number } | undefined;
}

function u16(...values: number[]): Buffer {
  const bytes = Buffer.alloc(2 * values.length);
  for (const [index, value] of values.entries()) bytes.writeUInt16BE(value, 2 * index);
  return bytes;
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

const text = (value: string): Buffer =>
  Buffer.concat([u32(Buffer.byteLength(value)), Buffer.from(value)]);

export async function greet(stream: OptionStream): Promise<Greeting> {
  const greeting = await stream.read(16);
  const magic = greeting.readBigUInt64BE(0);
  if (magic !== NBDMAGIC) broken("greeting-magic", `it begins with 0x${magic.toString(16)}`);
  const second = greeting.readBigUInt64BE(8);
  if (second === OLDSTYLE_MAGIC) return greetOldstyle(stream);
  if (second !== IHAVEOPT) broken("greeting-magic", `it goes on with 0x${second.toString(16)}`);
  const flags = (await stream.read(2)).readUInt16BE(0);
  const isFixed = (flags & NBD_FLAG_FIXED_NEWSTYLE) !== 0;
  const hasNoZeroes = (flags & NBD_FLAG_NO_ZEROES) !== 0;
  stream.send(
    u32((isFixed ? NBD_FLAG_C_FIXED_NEWSTYLE : 0) | (hasNoZeroes ? NBD_FLAG_C_NO_ZEROES : 0)),
  );
  return { isFixed, hasNoZeroes, oldstyle: undefined };
}

async function greetOldstyle(stream: OptionStream): Promise<Greeting> {
  const rest = await stream.read(8 + 4 + 124);
  const oldstyle = { sizeBytes: rest.readBigUInt64BE(0), flags: rest.readUInt16BE(10) };
  return { isFixed: false, hasNoZeroes: false, oldstyle };
}

/** Until the acknowledgement or an error; others go to `take`, whose type has to be `expected`. */
async function replies(
  stream: OptionStream,
  option: number,
  expected: number | undefined,
  take: (data: Buffer) => void = () => {},
): Promise<OptionReply> {
  for (;;) {
    const reply = await stream.readReply(option);
    if (reply.type >= NBD_REP_FLAG_ERROR) return reply;
    if (reply.type === NBD_REP_ACK) {
      if (reply.data.length > 0)
        broken("option-reply-length", `an acknowledgement has ${reply.data.length} bytes`);
      return reply;
    }
    if (reply.type !== expected)
      broken("option-reply-type", `${nameOf(option)} has one of type ${reply.type}`);
    take(reply.data);
  }
}

/** Asks for what has no data and is acknowledged. */
async function isAcknowledged(stream: OptionStream, option: number): Promise<boolean> {
  stream.sendOption(option);
  return (await replies(stream, option, undefined)).type === NBD_REP_ACK;
}

export async function askForTls(stream: OptionStream): Promise<void> {
  stream.sendOption(NBD_OPT_STARTTLS);
  const reply = await replies(stream, NBD_OPT_STARTTLS, undefined);
  if (reply.type !== NBD_REP_ACK) throw optionError("NBD_OPT_STARTTLS", reply);
}

export async function settleStyle(stream: OptionStream, wishes: Wishes): Promise<ReplyStyle> {
  if (wishes.extendedHeaders && (await isAcknowledged(stream, NBD_OPT_EXTENDED_HEADERS)))
    return "extended";
  if (wishes.structuredReplies && (await isAcknowledged(stream, NBD_OPT_STRUCTURED_REPLY)))
    return "structured";
  return "simple";
}

const queries = (exportName: string, names: readonly string[]): Buffer =>
  Buffer.concat([text(exportName), u32(names.length), ...names.map(text)]);

function takeContext(data: Buffer): { id: number; name: string } {
  if (data.length < 4) broken("option-reply-length", `a context's has ${data.length} bytes`);
  const name = stringOf(data.subarray(4), MAX_STRING_BYTES, "a context's name");
  return { id: data.readUInt32BE(0), name };
}

/** Names and ids of those that the server has. */
export async function selectContexts(
  stream: OptionStream,
  { exportName, contexts: names }: Wishes,
): Promise<Map<string, number>> {
  const contexts = new Map<string, number>();
  stream.sendOption(NBD_OPT_SET_META_CONTEXT, queries(exportName, names));
  const last = await replies(stream, NBD_OPT_SET_META_CONTEXT, NBD_REP_META_CONTEXT, (data) => {
    const { id, name } = takeContext(data);
    const isAsked = names.some(
      (asked) => name === asked || (asked.endsWith(":") && name.startsWith(asked)),
    );
    if (!isAsked || contexts.size === MAX_CONTEXTS) broken("context-asked", `"${name}" was not`);
    if ([...contexts.values()].includes(id) || contexts.has(name))
      broken("context-id", `"${name}" has the id ${id}`);
    contexts.set(name, id);
  });
  // One that fails selects none.
  return last.type === NBD_REP_ACK ? contexts : new Map();
}

/** Names of the contexts that an export has. */
export async function listContexts(
  stream: OptionStream,
  exportName: string,
): Promise<readonly string[]> {
  const names = new Set<string>();
  stream.sendOption(NBD_OPT_LIST_META_CONTEXT, queries(exportName, []));
  await replies(stream, NBD_OPT_LIST_META_CONTEXT, NBD_REP_META_CONTEXT, (data) => {
    if (names.size === MAX_CONTEXTS) broken("context-asked", `there are more than ${MAX_CONTEXTS}`);
    names.add(takeContext(data).name);
  });
  return [...names];
}

/** Throws an NbdError if the server does not tell. */
export async function listExports(stream: OptionStream): Promise<readonly ListedExport[]> {
  const exports: ListedExport[] = [];
  let bytes = 0;
  stream.sendOption(NBD_OPT_LIST);
  const last = await replies(stream, NBD_OPT_LIST, NBD_REP_SERVER, (data) => {
    bytes += data.length + ENTRY_BYTES;
    if (bytes > MAX_LIST_BYTES)
      broken("option-reply-length", `the list of exports has more than ${MAX_LIST_BYTES} bytes`);
    const length = data.length < 4 ? data.length : data.readUInt32BE(0);
    if (data.length < 4 + length)
      broken("option-reply-length", `a name of ${length} bytes in a reply of ${data.length}`);
    exports.push({
      name: stringOf(data.subarray(4, 4 + length), MAX_STRING_BYTES, "an export's name"),
      description: stringOf(data.subarray(4 + length), MAX_STRING_BYTES, "a description"),
    });
  });
  if (last.type !== NBD_REP_ACK) throw optionError("NBD_OPT_LIST", last);
  return exports;
}

interface Infos {
  export?: { sizeBytes: bigint; flags: number };
  name?: string;
  description?: string;
  blockSizes?: BlockSizes;
}

function takeInfo(infos: Infos, data: Buffer): void {
  const type = data.length < 2 ? -1 : data.readUInt16BE(0);
  const lengthIs = (bytes: number): void => {
    if (data.length !== bytes)
      broken("option-reply-length", `information ${type} has ${data.length} bytes`);
  };
  switch (type) {
    case -1:
      lengthIs(2);
      return;
    case NBD_INFO_EXPORT:
      lengthIs(12);
      infos.export = { sizeBytes: data.readBigUInt64BE(2), flags: data.readUInt16BE(10) };
      return;
    case NBD_INFO_NAME:
      infos.name = stringOf(data.subarray(2), MAX_STRING_BYTES, "an export's name");
      return;
    case NBD_INFO_DESCRIPTION:
      infos.description = stringOf(data.subarray(2), MAX_STRING_BYTES, "a description");
      return;
    case NBD_INFO_BLOCK_SIZE:
      lengthIs(14);
      infos.blockSizes = checkBlockSizes({
        minimum: data.readUInt32BE(2),
        preferred: data.readUInt32BE(6),
        maximum: data.readUInt32BE(10),
      });
  }
}

type Way = typeof NBD_OPT_GO | typeof NBD_OPT_INFO;

/** undefined: the server has no such option. */
async function askForExport(
  stream: OptionStream,
  way: Way,
  exportName: string,
): Promise<Infos | undefined> {
  const wanted = u16(3, NBD_INFO_NAME, NBD_INFO_DESCRIPTION, NBD_INFO_BLOCK_SIZE);
  const infos: Infos = {};
  stream.sendOption(way, Buffer.concat([text(exportName), wanted]));
  const last = await replies(stream, way, NBD_REP_INFO, (data) => takeInfo(infos, data));
  if (last.type === NBD_REP_ERR_UNSUP) return undefined;
  if (last.type !== NBD_REP_ACK) throw optionError(nameOf(way), last);
  return infos;
}

/** The old way into an export: there is no answer but its facts. */
async function askByName(
  stream: OptionStream,
  exportName: string,
  hasNoZeroes: boolean,
): Promise<Infos> {
  stream.sendOption(NBD_OPT_EXPORT_NAME, Buffer.from(exportName));
  const facts = await stream.read(10 + (hasNoZeroes ? 0 : 124)).catch((error: unknown) => {
    throw new ConnectionError(
      "ECONNRESET",
      `the server closed the connection when asked for the export "${exportName}"`,
      { cause: error },
    );
  });
  return { export: { sizeBytes: facts.readBigUInt64BE(0), flags: facts.readUInt16BE(8) } };
}

export async function enterExport(
  stream: OptionStream,
  greeting: Greeting,
  wishes: Wishes,
): Promise<ExportFacts> {
  const { exportName } = wishes;
  if (greeting.oldstyle !== undefined)
    return factsOf({ export: greeting.oldstyle }, exportName, "simple", new Map(), stream);
  if (!greeting.isFixed) {
    const infos = await askByName(stream, exportName, greeting.hasNoZeroes);
    return factsOf(infos, exportName, "simple", new Map(), stream);
  }
  const style = await settleStyle(stream, wishes);
  const asksForContexts = style !== "simple" && wishes.contexts.length > 0;
  const contexts = asksForContexts ? await selectContexts(stream, wishes) : new Map();
  const infos =
    (await askForExport(stream, NBD_OPT_GO, exportName)) ??
    (await askByName(stream, exportName, greeting.hasNoZeroes));
  return factsOf(infos, exportName, style, contexts, stream);
}

/** Of an export that is not entered. Throws an NbdError if there is none of that name. */
export async function inquire(
  stream: OptionStream,
  wishes: Wishes,
  style: ReplyStyle,
): Promise<ExportFacts> {
  const infos = await askForExport(stream, NBD_OPT_INFO, wishes.exportName);
  if (infos === undefined)
    throw optionError("NBD_OPT_INFO", { type: NBD_REP_ERR_UNSUP, data: Buffer.alloc(0) });
  return factsOf(infos, wishes.exportName, style, new Map(), stream);
}

/** Leaves before the transmission. */
export function abort(stream: OptionStream): void {
  stream.sendOption(NBD_OPT_ABORT);
  stream.channel.finish();
  setTimeout(() => stream.channel.destroy(), ABORT_TIMEOUT_MS).unref();
}

function factsOf(
  infos: Infos,
  exportName: string,
  style: ReplyStyle,
  contexts: ReadonlyMap<string, number>,
  stream: OptionStream,
): ExportFacts {
  if (infos.export === undefined) broken("info-export", "it did not come");
  const { sizeBytes, flags } = infos.export;
  checkFlags(flags, style);
  if (sizeBytes > BigInt(Number.MAX_SAFE_INTEGER))
    throw new RangeError(`the export has ${sizeBytes} bytes; this client supports at most 2^53-1`);
  return {
    ...capabilitiesOf(flags),
    exportName,
    canonicalName: infos.name,
    description: infos.description,
    sizeBytes: Number(sizeBytes),
    flags,
    blockSizes: infos.blockSizes ?? DEFAULT_BLOCK_SIZES,
    hasBlockSizes: infos.blockSizes !== undefined,
    style,
    contexts,
    isEncrypted: stream.isEncrypted,
  };
}
