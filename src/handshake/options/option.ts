// The interface of an option handler, and what all of them share.

import type { BlockSizes, OpenedExport, ReplyStyle } from "../../addon/types.js";
import { MAX_PAYLOAD_BYTES, MAX_STRING_BYTES, NBD_REP_ERR_UNSUP } from "../../protocol.js";
import { type Outcome, type Step, send } from "../effects.js";
import { optionReply } from "../replies.js";
import { transmissionFlags } from "../transmission-flags.js";

const MAX_REFUSALS = 16;
const MAX_QUOTED = 256;

/** What client and server have agreed on so far. */
export interface Negotiation {
  readonly isFixedNewstyle: boolean;
  /** After NBD_OPT_EXPORT_NAME, 124 zeroes follow the flags. */
  readonly sendsZeroes: boolean;
  readonly settings: HandshakeSettings;
  /** What the client has asked for in vain, so far. */
  readonly refusals: string[];
  isTls: boolean;
  replyStyle: ReplyStyle;
  /** Selected last, for the export of this name as the client gave it. */
  contexts: SelectedContexts | undefined;
}

export interface SelectedContexts {
  readonly exportName: string;
  readonly contexts: readonly { readonly id: number; readonly number: number }[];
}

/** "NBD_OPT_STARTTLS": the server must forget what the client, or someone else, has said before. */
export function forget(negotiation: Negotiation): void {
  negotiation.replyStyle = "simple";
  negotiation.contexts = undefined;
}

export interface HandshakeSettings {
  /** Which of the global flags to offer: a mask for tests of clients. */
  readonly handshakeFlagsMask: number;
  /** Offer structured replies, and with them meta contexts. */
  readonly structuredReplies: boolean;
  readonly metaContexts: boolean;
  /** Offer extended headers. */
  readonly extendedHeaders: boolean;
  /** The specification's modes NOTLS, SELECTIVETLS and FORCEDTLS. */
  readonly tls: "off" | "on" | "require";
  /** The oldstyle protocol instead: no options, no choice of an export. */
  readonly oldstyle: boolean;
}

/** Contexts are selected for one export, by the name that the client gave. */
function contextsFor(negotiation: Negotiation, exportName: string): SelectedContexts["contexts"] {
  const { contexts } = negotiation;
  return contexts?.exportName === exportName ? contexts.contexts : [];
}

export function flagsFor(
  negotiation: Negotiation,
  exportName: string,
  opened: OpenedExport,
): number {
  const hasContexts = contextsFor(negotiation, exportName).length > 0;
  return transmissionFlags(opened, negotiation.replyStyle, hasContexts);
}

/**
 * The end of a handshake that has chosen an export. `announced`: the block sizes, if the client
 * asked for them.
 */
export function transmit(
  negotiation: Negotiation,
  exportName: string,
  flags: number,
  announced?: BlockSizes,
): Outcome {
  return {
    kind: "transmit",
    flags,
    replyStyle: negotiation.replyStyle,
    contexts: contextsFor(negotiation, exportName),
    blockBytes: announced?.[0] ?? 1,
    maxPayloadBytes: Math.min(announced?.[2] ?? MAX_PAYLOAD_BYTES, MAX_PAYLOAD_BYTES),
  };
}

export interface OptionHandler {
  /** The most data the option can have. More is skipped unseen and refused. */
  readonly maxBytes: number;
  /** Decodes the data and sends the replies. Returns how the handshake ends, if it does. */
  answer(negotiation: Negotiation, option: number, data: Uint8Array): Step<Outcome | undefined>;
}

/** Sends the error, and remembers it for the log in case the client disconnects because of it. */
export function* refuseOption(
  { refusals }: Negotiation,
  option: number,
  reply: number,
  text: string,
): Step<void> {
  // Clients ask for options that they can do without.
  if (reply !== NBD_REP_ERR_UNSUP && refusals.length < MAX_REFUSALS) refusals.push(text);
  yield* send(optionReply(option, reply, new TextEncoder().encode(text)));
}

/** A name from a client for messages: short, and without what could be more than a name. */
export function quoted(name: string): string {
  const harmless = name
    .slice(0, MAX_QUOTED)
    .replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}"\\]/gu, (character) =>
      /["\\]/.test(character)
        ? `\\${character}`
        : `\\u{${(character.codePointAt(0) as number).toString(16)}}`,
    );
  return `"${harmless}${name.length > MAX_QUOTED ? "…" : ""}"`;
}

/** An export's name from the wire; undefined unless it is UTF-8 of a legal length without NUL. */
export function decodeName(bytes: Uint8Array): string | undefined {
  if (bytes.length > MAX_STRING_BYTES || bytes.includes(0)) return undefined;
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return undefined;
  }
}
