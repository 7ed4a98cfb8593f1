// NBD_OPT_LIST_META_CONTEXT and NBD_OPT_SET_META_CONTEXT: what NBD_CMD_BLOCK_STATUS can tell.

import {
  BASE_ALLOCATION,
  MAX_STRING_BYTES,
  NBD_OPT_SET_META_CONTEXT,
  NBD_REP_ACK,
  NBD_REP_ERR_INVALID,
  NBD_REP_ERR_UNSUP,
} from "../constants.js";
import { send } from "../effects.js";
import { metaContextReply, optionReply } from "../replies.js";
import { decodeName, type Negotiation, type OptionHandler } from "./option.js";

/** A client that asks for more than fits into this wants something else. */
const MAX_QUERIES_BYTES = 64 * 1024;

/** IDs are ours to choose; in a list they mean nothing. */
const ALLOCATION_ID = 1;
const NO_ID = 0;

interface Request {
  readonly exportName: string;
  readonly queries: readonly string[];
}

export const metaContext: OptionHandler = {
  maxBytes: 4 + MAX_STRING_BYTES + 4 + MAX_QUERIES_BYTES,

  *answer(negotiation, option, data) {
    const isSet = option === NBD_OPT_SET_META_CONTEXT;
    if (isSet) negotiation.contexts = undefined; // even if what follows fails
    const refusal = refuse(negotiation);
    const request = decode(data);
    if (refusal !== undefined || request === undefined) {
      const text = new TextEncoder().encode(refusal?.text ?? "malformed export name or queries");
      yield* send(optionReply(option, refusal?.reply ?? NBD_REP_ERR_INVALID, text));
      return undefined;
    }
    const isWanted = isSet ? selects(request) : lists(request);
    if (isSet && isWanted)
      negotiation.contexts = { exportName: request.exportName, allocation: ALLOCATION_ID };
    const context = metaContextReply(option, isSet ? ALLOCATION_ID : NO_ID, BASE_ALLOCATION);
    yield* send(Buffer.concat([...(isWanted ? [context] : []), optionReply(option, NBD_REP_ACK)]));
    return undefined;
  },
};

function refuse({ settings, structuredReplies }: Negotiation) {
  if (!settings.metaContexts)
    return { reply: NBD_REP_ERR_UNSUP, text: "this server has no meta contexts" };
  if (!structuredReplies)
    return { reply: NBD_REP_ERR_INVALID, text: "negotiate structured replies first" };
  return undefined;
}

/** "base:" and an empty list stand for all of the namespace, and for all there are. */
const lists = ({ queries }: Request): boolean =>
  queries.length === 0 || queries.some((query) => query === "base:" || query === BASE_ALLOCATION);

const selects = ({ queries }: Request): boolean => queries.includes(BASE_ALLOCATION);

/** The name with its length, then how many queries, each with its length; nothing may be left. */
function decode(data: Uint8Array): Request | undefined {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  let at = 0;
  const number = (): number | undefined => {
    if (at + 4 > data.length) return undefined;
    at += 4;
    return view.getUint32(at - 4);
  };
  const text = (): string | undefined => {
    const bytes = number();
    if (bytes === undefined || bytes > data.length - at) return undefined;
    at += bytes;
    return decodeName(data.subarray(at - bytes, at));
  };
  const exportName = text();
  const count = number();
  if (exportName === undefined || count === undefined) return undefined;
  const queries: string[] = [];
  for (let i = 0; i < count; i++) {
    const query = text();
    if (query === undefined) return undefined;
    queries.push(query);
  }
  return at === data.length ? { exportName, queries } : undefined;
}
