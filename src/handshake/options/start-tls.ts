// NBD_OPT_STARTTLS: everything is encrypted from the acknowledgement on.

import { NBD_REP_ACK, NBD_REP_ERR_INVALID, NBD_REP_ERR_POLICY } from "../../protocol.js";
import { HandshakeEnd, send, upgradeTls } from "../effects.js";
import { optionReply } from "../replies.js";
import { forget, type OptionHandler, refuseOption } from "./option.js";

export const startTls: OptionHandler = {
  maxBytes: 0,

  *answer(negotiation, option) {
    if (negotiation.settings.tls === "off" || negotiation.isTls) {
      const reply = negotiation.isTls ? NBD_REP_ERR_INVALID : NBD_REP_ERR_POLICY;
      const text = negotiation.isTls ? "TLS is already in use" : "TLS is not supported";
      yield* refuseOption(negotiation, option, reply, text);
      return undefined;
    }
    yield* send(optionReply(option, NBD_REP_ACK));
    const upgraded = yield* upgradeTls();
    if (upgraded !== true) throw new HandshakeEnd(`TLS handshake failed: ${upgraded}`);
    negotiation.isTls = true;
    forget(negotiation);
    return undefined;
  },
};
