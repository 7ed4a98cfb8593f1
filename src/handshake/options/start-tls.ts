// NBD_OPT_STARTTLS: everything is encrypted from the acknowledgement on.

import { NBD_REP_ACK, NBD_REP_ERR_INVALID, NBD_REP_ERR_POLICY } from "../constants.js";
import { HandshakeEnd, send, upgradeTls } from "../effects.js";
import { optionReply } from "../replies.js";
import { forget, type OptionHandler } from "./option.js";

export const startTls: OptionHandler = {
  maxBytes: 0,

  *answer(negotiation, option) {
    if (negotiation.settings.tls === "off" || negotiation.isTls) {
      const reply = negotiation.isTls ? NBD_REP_ERR_INVALID : NBD_REP_ERR_POLICY;
      const text = negotiation.isTls ? "TLS is on already" : "this server has no TLS";
      yield* send(optionReply(option, reply, new TextEncoder().encode(text)));
      return undefined;
    }
    yield* send(optionReply(option, NBD_REP_ACK));
    if ((yield* upgradeTls()) === null) throw new HandshakeEnd("TLS could not be negotiated");
    negotiation.isTls = true;
    forget(negotiation);
    return undefined;
  },
};
