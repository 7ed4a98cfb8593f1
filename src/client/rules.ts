// The rules of the specification that a server can break in a client's sight, each with the heading
// under which it stands.

/** Which rule: stable, for programs. */
export type RuleName = keyof typeof RULES;

interface Rule {
  /** The heading in the specification. */
  readonly section: string;
  readonly rule: string;
}

const GREETING = "Newstyle negotiation";
const OPTIONS = "Fixed newstyle negotiation";
const OPTION_REPLIES = "Option reply types";
const FLAGS = "Transmission flags";
const BLOCKS = "Size constraints";
const CHUNKS = "Structured reply types";
const REQUESTS = "Request types";
const STRINGS = "Conventions";

/** All rules that a client checks, by their stable names. */
export const RULES = {
  "greeting-magic": { section: GREETING, rule: "a server begins with NBDMAGIC and IHAVEOPT" },
  "option-reply-magic": { section: OPTIONS, rule: "a reply to an option begins with its magic" },
  "option-reply-option": { section: OPTIONS, rule: "a reply to an option repeats its number" },
  "option-reply-type": {
    section: OPTION_REPLIES,
    rule: "an option has only replies of the types that it is defined to have",
  },
  "option-reply-length": {
    section: OPTION_REPLIES,
    rule: "a reply to an option is as long as its type says",
  },
  "string-length": { section: STRINGS, rule: "no string is longer than 4096 bytes" },
  "string-utf8": { section: STRINGS, rule: "strings are UTF-8" },
  "info-export": {
    section: "Option types",
    rule: "NBD_INFO_EXPORT comes before the acknowledgement",
  },
  "block-size-minimum": {
    section: BLOCKS,
    rule: "the minimum block size is a power of two of 65536 at most",
  },
  "block-size-preferred": {
    section: BLOCKS,
    rule: "the preferred block size is a power of two, 512 at least, and not below the minimum",
  },
  "block-size-maximum": {
    section: BLOCKS,
    rule: "the maximum payload is not below the preferred block size",
  },
  "has-flags": { section: FLAGS, rule: "NBD_FLAG_HAS_FLAGS is always set" },
  "flag-df": { section: FLAGS, rule: "NBD_FLAG_SEND_DF needs structured or extended replies" },
  "flag-fast-zero": {
    section: FLAGS,
    rule: "NBD_FLAG_SEND_FAST_ZERO comes with NBD_FLAG_SEND_WRITE_ZEROES",
  },
  "flag-status-payload": {
    section: FLAGS,
    rule: "NBD_FLAG_BLOCK_STATUS_PAYLOAD needs extended headers",
  },
  "context-id": { section: "Option types", rule: "ids of meta contexts are unique" },
  "context-asked": {
    section: "Metadata querying",
    rule: "only meta contexts that were asked for are selected",
  },
  "tls-required": {
    section: "TLS support",
    rule: "NBD_REP_ERR_TLS_REQD is not sent once TLS is on",
  },
  "tls-plain-text": {
    section: "TLS support",
    rule: "nothing comes in plain text after NBD_OPT_STARTTLS was acknowledged",
  },
  "reply-magic": {
    section: "Reserved Magic values",
    rule: "a reply begins with a magic of its kind",
  },
  "reply-simple-read": {
    section: "Simple reply message",
    rule: "a read has no simple reply once structured replies are negotiated",
  },
  "reply-simple-extended": {
    section: "Simple reply message",
    rule: "there are no simple replies with extended headers",
  },
  "reply-chunk": {
    section: "Structured reply chunk message",
    rule: "there are no chunks unless structured replies are negotiated",
  },
  cookie: { section: "Transmission", rule: "a reply has the cookie of an outstanding request" },
  "reply-offset": {
    section: "Extended reply chunk message",
    rule: "a reply repeats the offset of its request",
  },
  "reply-flags": {
    section: "Structured and extended header reply flags",
    rule: "unknown reply flags are not set",
  },
  "chunk-type": { section: CHUNKS, rule: "a chunk has a known type" },
  "chunk-none": { section: CHUNKS, rule: "NBD_REPLY_TYPE_NONE is empty, and the last chunk" },
  "content-command": { section: CHUNKS, rule: "content answers NBD_CMD_READ only" },
  "data-length": { section: CHUNKS, rule: "a chunk of data has at least one byte" },
  "hole-length": { section: CHUNKS, rule: "a hole is a chunk of 12 bytes, and not empty" },
  "content-range": { section: CHUNKS, rule: "content lies in the range asked for" },
  "content-overlap": { section: CHUNKS, rule: "content does not overlap earlier chunks" },
  "content-pieces": {
    section: REQUESTS,
    rule: "content is not divided into absurdly many pieces",
  },
  "content-whole": { section: REQUESTS, rule: "a successful read has all of its range" },
  "content-df": {
    section: "Command flags",
    rule: "NBD_CMD_FLAG_DF allows one content chunk",
  },
  "status-command": { section: CHUNKS, rule: "block status answers NBD_CMD_BLOCK_STATUS only" },
  "status-style": {
    section: CHUNKS,
    rule: "NBD_REPLY_TYPE_BLOCK_STATUS_EXT comes with extended headers, and only then",
  },
  "status-length": {
    section: CHUNKS,
    rule: "a status chunk has whole descriptors, at least one and 2^20 at most",
  },
  "status-count": { section: CHUNKS, rule: "a descriptor count is right" },
  "status-context": { section: CHUNKS, rule: "a status is of a selected meta context" },
  "status-duplicate": { section: CHUNKS, rule: "there is one status chunk for a meta context" },
  "status-missing": { section: REQUESTS, rule: "each selected meta context is answered" },
  "status-empty": { section: CHUNKS, rule: "no descriptor is empty" },
  "status-range": {
    section: CHUNKS,
    rule: "only the last descriptor reaches beyond the range asked for",
  },
  "status-end": { section: REQUESTS, rule: "descriptors end with the export" },
  "status-aligned": {
    section: REQUESTS,
    rule: "descriptors are multiples of the minimum block size",
  },
  "status-bits": { section: CHUNKS, rule: "flags of base: contexts have 32 bits" },
  "error-length": { section: CHUNKS, rule: "an error chunk is as long as its fields" },
  "error-zero": { section: CHUNKS, rule: "an error is not 0" },
  "error-offset": { section: CHUNKS, rule: "an error's offset lies in the range asked for" },
  "disconnect-reply": {
    section: "Terminating the transmission phase",
    rule: "nothing comes after NBD_CMD_DISC",
  },
} as const satisfies Readonly<Record<string, Rule>>;

/**
 * The server has broken a rule of the specification. The connection has been closed, since nothing
 * that follows could be trusted; requests in flight reject with this error, and are not retried.
 */
export class ProtocolError extends Error {
  readonly code = "EPROTO";
  /** Which rule; names are stable. */
  readonly rule: RuleName;
  /** The heading in the specification under which the rule stands. */
  readonly section: string;

  constructor(rule: RuleName, detail: string) {
    const { section, rule: words } = RULES[rule];
    super(`the server breaks a rule of NBD ("${section}"): ${words}; ${detail}`);
    this.name = "ProtocolError";
    this.rule = rule;
    this.section = section;
  }
}

export function broken(rule: RuleName, detail: string): never {
  throw new ProtocolError(rule, detail);
}

const decoder = new TextDecoder("utf-8", { fatal: true });

/** A string of the server's, checked. */
export function stringOf(bytes: Uint8Array, maxBytes: number, what: string): string {
  if (bytes.length > maxBytes) broken("string-length", `${what} has ${bytes.length} bytes`);
  try {
    return decoder.decode(bytes);
  } catch {
    return broken("string-utf8", `${what} is none`);
  }
}
