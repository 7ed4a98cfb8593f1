// NBD_OPT_LIST: which exports there are.

import { MAX_STRING_BYTES, NBD_REP_ACK, NBD_REP_ERR_PLATFORM } from "../../protocol.js";
import { listExports, send } from "../effects.js";
import { optionReply, serverReply } from "../replies.js";
import { type OptionHandler, refuseOption } from "./option.js";

export const list: OptionHandler = {
  maxBytes: 0,

  *answer(negotiation, option) {
    const entries = yield* listExports();
    if (entries === null) {
      const text = "the exports cannot be listed";
      yield* refuseOption(negotiation, option, NBD_REP_ERR_PLATFORM, text);
      return undefined;
    }
    const replies = entries
      .filter((entry) => Buffer.byteLength(entry.name) <= MAX_STRING_BYTES)
      .map((entry) => serverReply(option, entry));
    yield* send(Buffer.concat([...replies, optionReply(option, NBD_REP_ACK)]));
    return undefined;
  },
};
