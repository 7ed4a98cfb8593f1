// NBD_OPT_ABORT: the client ends the handshake.

import { NBD_REP_ACK } from "../../protocol.js";
import { send } from "../effects.js";
import { optionReply } from "../replies.js";
import type { OptionHandler } from "./option.js";

export const abort: OptionHandler = {
  maxBytes: 4096, // it has none, but the specification asks to ignore what there is

  *answer(_negotiation, option) {
    yield* send(optionReply(option, NBD_REP_ACK));
    return { kind: "close", reason: "the client aborted the handshake", isRefused: false };
  },
};
