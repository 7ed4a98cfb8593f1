// NBD_OPT_STRUCTURED_REPLY: replies in chunks from now on, in the transmission phase.

import { NBD_REP_ACK, NBD_REP_ERR_UNSUP } from "../constants.js";
import { send } from "../effects.js";
import { optionReply } from "../replies.js";
import type { OptionHandler } from "./option.js";

export const structuredReply: OptionHandler = {
  maxBytes: 0,

  *answer(negotiation, option) {
    if (negotiation.settings.structuredReplies) negotiation.structuredReplies = true;
    const reply = negotiation.structuredReplies ? NBD_REP_ACK : NBD_REP_ERR_UNSUP;
    yield* send(optionReply(option, reply));
    return undefined;
  },
};
