// The fixed newstyle handshake as a pure state machine: effects out, their results in. It has no
// socket, so every path of it can be tested and fuzzed; server/session.ts gives it one.

import {
  IHAVEOPT,
  MAX_PAYLOAD_BYTES,
  NBD_FLAG_C_FIXED_NEWSTYLE,
  NBD_FLAG_C_NO_ZEROES,
  NBD_FLAG_FIXED_NEWSTYLE,
  NBD_FLAG_NO_ZEROES,
  NBD_OPT_ABORT,
  NBD_OPT_EXPORT_NAME,
  NBD_OPT_STARTTLS,
  NBD_REP_ERR_INVALID,
  NBD_REP_ERR_TLS_REQD,
  NBD_REP_ERR_TOO_BIG,
  NBD_REP_ERR_UNSUP,
  NBDMAGIC,
  OLDSTYLE_MAGIC,
} from "../protocol.js";
import { HandshakeEnd, type Outcome, openExport, read, type Step, send, skip } from "./effects.js";
import { optionHandlers } from "./options/index.js";
import { type HandshakeSettings, type Negotiation, refuseOption } from "./options/option.js";
import { transmissionFlags } from "./transmission-flags.js";

export type { HandshakeSettings } from "./options/option.js";

/** No client needs more options than this. */
const MAX_OPTIONS = 1024;

/** More than any option needs; a longer one ends the handshake. */
const MAX_SKIPPED_BYTES = 64 * 2 ** 20;

const GREETING_BYTES = 18;
const OLDSTYLE_GREETING_BYTES = 28 + 124;
const OPTION_HEADER_BYTES = 16;

/** Runs one client's handshake. Returns how it ended; throws nothing. */
export function* handshake(settings: HandshakeSettings): Step<Outcome> {
  const refusals: string[] = [];
  const outcome = yield* negotiate(settings, refusals);
  // A client that leaves when it cannot have what it wants has been refused that.
  const reason = refusals.at(-1);
  const isRefused = outcome.kind === "close" && !outcome.isRefused && reason !== undefined;
  return isRefused ? { kind: "close", reason, isRefused } : outcome;
}

function* negotiate(settings: HandshakeSettings, refusals: string[]): Step<Outcome> {
  try {
    if (settings.oldstyle) return yield* greetOldstyle();
    const negotiation = yield* greet(settings, refusals);
    return yield* haggle(negotiation);
  } catch (end) {
    if (!(end instanceof HandshakeEnd)) throw end;
    return { kind: "close", reason: end.reason, isRefused: end.isRefused };
  }
}

/** "Oldstyle negotiation": all at once, and the client takes it or leaves. */
function* greetOldstyle(): Step<Outcome> {
  const opened = yield* openExport("");
  if (opened === null) throw new HandshakeEnd("the default export cannot be opened");
  const flags = transmissionFlags(opened);
  const greeting = new DataView(new ArrayBuffer(OLDSTYLE_GREETING_BYTES));
  greeting.setBigUint64(0, NBDMAGIC);
  greeting.setBigUint64(8, OLDSTYLE_MAGIC);
  greeting.setBigUint64(16, opened.sizeBytes);
  greeting.setUint32(24, flags); // the global flags, the upper half, are none
  yield* send(new Uint8Array(greeting.buffer));
  return {
    kind: "transmit",
    flags,
    replyStyle: "simple",
    contexts: [],
    blockBytes: 1,
    maxPayloadBytes: MAX_PAYLOAD_BYTES,
  };
}

/** "Newstyle negotiation": our greeting, then the client's flags. */
function* greet(settings: HandshakeSettings, refusals: string[]): Step<Negotiation> {
  const offered = (NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES) & settings.handshakeFlagsMask;
  const greeting = new DataView(new ArrayBuffer(GREETING_BYTES));
  greeting.setBigUint64(0, NBDMAGIC);
  greeting.setBigUint64(8, IHAVEOPT);
  greeting.setUint16(16, offered);
  yield* send(new Uint8Array(greeting.buffer));

  const flags = view(yield* read(4)).getUint32(0);
  // Client flags have the numbers of the global flags they answer.
  if ((flags & ~offered) >>> 0 !== 0)
    throw new HandshakeEnd(`client flags 0x${flags.toString(16)} were not offered`);
  return {
    isFixedNewstyle: (flags & NBD_FLAG_C_FIXED_NEWSTYLE) !== 0,
    sendsZeroes: (flags & NBD_FLAG_C_NO_ZEROES) === 0,
    settings,
    refusals,
    isTls: false,
    replyStyle: "simple",
    contexts: undefined,
  };
}

/** "Option haggling": one option after the other until one of them ends it. */
function* haggle(negotiation: Negotiation): Step<Outcome> {
  for (let count = 0; count < MAX_OPTIONS; count++) {
    const header = view(yield* read(OPTION_HEADER_BYTES));
    if (header.getBigUint64(0) !== IHAVEOPT) throw new HandshakeEnd("expected an option header");
    const outcome = yield* answer(negotiation, header.getUint32(8), header.getUint32(12));
    if (outcome !== undefined) return outcome;
  }
  throw new HandshakeEnd(`more than ${MAX_OPTIONS} options`);
}

function* answer(
  negotiation: Negotiation,
  option: number,
  lengthBytes: number,
): Step<Outcome | undefined> {
  if (lengthBytes > MAX_SKIPPED_BYTES)
    throw new HandshakeEnd(`option ${option} has ${lengthBytes} bytes of data, which is too long`);
  const handler = optionHandlers.get(option);
  const refusal = refuse(negotiation, option, lengthBytes, handler?.maxBytes);
  if (refusal !== undefined) {
    // The answer to this option cannot tell of an error.
    if (option === NBD_OPT_EXPORT_NAME) throw new HandshakeEnd(refusal.text);
    yield* skip(lengthBytes);
    yield* refuseOption(negotiation, option, refusal.reply, refusal.text);
    return undefined;
  }
  const data = lengthBytes > 0 ? yield* read(lengthBytes) : new Uint8Array();
  return yield* handler!.answer(negotiation, option, data);
}

function refuse(
  negotiation: Negotiation,
  option: number,
  lengthBytes: number,
  maxBytes: number | undefined,
): { reply: number; text: string } | undefined {
  if (!negotiation.isFixedNewstyle && option !== NBD_OPT_EXPORT_NAME)
    return {
      reply: NBD_REP_ERR_INVALID,
      text: `option ${option} requires NBD_FLAG_C_FIXED_NEWSTYLE`,
    };
  const needsTls = option !== NBD_OPT_STARTTLS && option !== NBD_OPT_ABORT;
  if (negotiation.settings.tls === "require" && !negotiation.isTls && needsTls)
    return { reply: NBD_REP_ERR_TLS_REQD, text: "this server requires TLS" };
  if (maxBytes === undefined)
    return { reply: NBD_REP_ERR_UNSUP, text: `option ${option} is not supported` };
  if (lengthBytes > maxBytes)
    return maxBytes === 0
      ? { reply: NBD_REP_ERR_INVALID, text: `option ${option} takes no data` }
      : { reply: NBD_REP_ERR_TOO_BIG, text: `option ${option} takes ${maxBytes} bytes at most` };
  return undefined;
}

function view(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
