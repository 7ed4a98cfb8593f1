// NBD_OPT_STRUCTURED_REPLY: replies in chunks from now on, in the transmission phase.

import { NBD_REP_ACK, NBD_REP_ERR_EXT_HEADER_REQD, NBD_REP_ERR_UNSUP } from "../../protocol.js";
import { send } from "../effects.js";
import { optionReply } from "../replies.js";
import type { OptionHandler } from "./option.js";

export const structuredReply: OptionHandler = {
  maxBytes: 0,

  *answer(negotiation, option) {
    let reply = NBD_REP_ACK;
    if (!negotiation.settings.structuredReplies) reply = NBD_REP_ERR_UNSUP;
    else if (negotiation.replyStyle === "extended") reply = NBD_REP_ERR_EXT_HEADER_REQD;
    else negotiation.replyStyle = "structured";
    yield* send(optionReply(option, reply));
    return undefined;
  },
};
