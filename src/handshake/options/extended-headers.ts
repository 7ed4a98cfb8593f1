// NBD_OPT_EXTENDED_HEADERS: requests and replies with lengths of 64 bits, which takes precedence
// over structured replies.

import { NBD_REP_ACK, NBD_REP_ERR_INVALID, NBD_REP_ERR_UNSUP } from "../../protocol.js";
import { send } from "../effects.js";
import { optionReply } from "../replies.js";
import type { OptionHandler } from "./option.js";

export const extendedHeaders: OptionHandler = {
  maxBytes: 0,

  *answer(negotiation, option) {
    const { settings, replyStyle } = negotiation;
    let reply = NBD_REP_ACK;
    if (!settings.extendedHeaders) reply = NBD_REP_ERR_UNSUP;
    else if (replyStyle === "extended") reply = NBD_REP_ERR_INVALID;
    else negotiation.replyStyle = "extended";
    yield* send(optionReply(option, reply));
    return undefined;
  },
};
