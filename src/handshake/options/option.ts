// What every option's file has to give, and what they share.

import { MAX_STRING_BYTES } from "../constants.js";
import type { Outcome, Step } from "../effects.js";

/** What client and server have agreed on so far. */
export interface Negotiation {
  readonly isFixedNewstyle: boolean;
  /** After NBD_OPT_EXPORT_NAME, 124 zeroes follow the flags. */
  readonly sendsZeroes: boolean;
  readonly settings: HandshakeSettings;
  structuredReplies: boolean;
  /** Selected last, for the export of this name as the client gave it. */
  contexts: { readonly exportName: string; readonly allocation: number } | undefined;
}

export interface HandshakeSettings {
  /** Which of the global flags to offer: a mask for tests of clients. */
  readonly handshakeFlagsMask: number;
  /** Offer structured replies, and with them meta contexts. */
  readonly structuredReplies: boolean;
  readonly metaContexts: boolean;
  /** The oldstyle protocol instead: no options, no choice of an export. */
  readonly oldstyle: boolean;
}

/** The end of a handshake that has chosen an export, by the name that the client gave. */
export function transmit(negotiation: Negotiation, exportName: string, flags: number): Outcome {
  const { structuredReplies, contexts } = negotiation;
  const allocationContext = contexts?.exportName === exportName ? contexts.allocation : undefined;
  return { kind: "transmit", flags, structuredReplies, allocationContext };
}

export interface OptionHandler {
  /** The most data the option can have. More is skipped unseen and refused. */
  readonly maxBytes: number;
  /** Decodes the data and sends the replies. Returns how the handshake ends, if it does. */
  answer(negotiation: Negotiation, option: number, data: Uint8Array): Step<Outcome | undefined>;
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
