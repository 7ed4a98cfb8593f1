// NBD_OPT_LIST_META_CONTEXT and NBD_OPT_SET_META_CONTEXT: what NBD_CMD_BLOCK_STATUS can report.

import type { MetaContextEntry } from "../../addon/types.js";
import {
  BASE_ALLOCATION,
  MAX_STRING_BYTES,
  NBD_OPT_SET_META_CONTEXT,
  NBD_REP_ACK,
  NBD_REP_ERR_EXT_HEADER_REQD,
  NBD_REP_ERR_INVALID,
  NBD_REP_ERR_UNKNOWN,
  NBD_REP_ERR_UNSUP,
} from "../../protocol.js";
import { metaContexts, send } from "../effects.js";
import { metaContextReply, optionReply } from "../replies.js";
import { decodeName, type Negotiation, type OptionHandler, refuseOption } from "./option.js";

/** A client that asks for more than fits into this wants something else. */
const MAX_QUERIES_BYTES = 64 * 1024;

/** IDs are ours to choose; in a list they mean nothing. */
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
      const text = refusal?.text ?? "malformed export name or queries";
      yield* refuseOption(negotiation, option, refusal?.reply ?? NBD_REP_ERR_INVALID, text);
      return undefined;
    }
    const own = yield* metaContexts(request.exportName);
    if (own === null) {
      const text = "the export's metadata contexts cannot be listed";
      yield* refuseOption(negotiation, option, NBD_REP_ERR_UNKNOWN, text);
      return undefined;
    }
    const offered: MetaContextEntry[] = [{ name: BASE_ALLOCATION, bits: 32, number: 0 }, ...own];
    const wanted = offered.filter((context) =>
      isSet
        ? request.queries.includes(context.name) && isUsable(negotiation, context)
        : lists(request, context),
    );
    // Ids begin with 1: 0 is what a list says.
    if (isSet && wanted.length > 0)
      negotiation.contexts = {
        exportName: request.exportName,
        contexts: wanted.map(({ number }) => ({ id: number + 1, number })),
      };
    const replies = wanted.map(({ name, number }) =>
      metaContextReply(option, isSet ? number + 1 : NO_ID, name),
    );
    const isCut = !isSet && wanted.some((context) => !isUsable(negotiation, context));
    const end = isCut ? NBD_REP_ERR_EXT_HEADER_REQD : NBD_REP_ACK;
    yield* send(Buffer.concat([...replies, optionReply(option, end)]));
    return undefined;
  },
};

function refuse({ settings, replyStyle }: Negotiation) {
  if (!settings.metaContexts)
    return { reply: NBD_REP_ERR_UNSUP, text: "metadata contexts are not supported" };
  if (replyStyle === "simple")
    return { reply: NBD_REP_ERR_INVALID, text: "negotiate structured replies first" };
  return undefined;
}

/** Statuses of more than 32 bits do not fit into structured replies. */
const isUsable = ({ replyStyle }: Negotiation, { bits }: MetaContextEntry): boolean =>
  bits === 32 || replyStyle === "extended";

/** A namespace with its colon and an empty list stand for all of it, and for all there are. */
const lists = ({ queries }: Request, { name }: MetaContextEntry): boolean =>
  queries.length === 0 ||
  queries.some((query) => query === name || query === name.slice(0, name.indexOf(":") + 1));

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
