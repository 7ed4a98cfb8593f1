// NBD_OPT_EXPORT_NAME: choose an export, without error replies; for old clients.

import { MAX_STRING_BYTES } from "../../protocol.js";
import { HandshakeEnd, openExport, send } from "../effects.js";
import { decodeName, flagsFor, type OptionHandler, quoted, transmit } from "./option.js";

const REPLY_BYTES = 10;
const ZEROES_BYTES = 124;

export const exportName: OptionHandler = {
  maxBytes: MAX_STRING_BYTES,

  *answer(negotiation, _option, data) {
    if (negotiation.replyStyle === "extended")
      throw new HandshakeEnd("NBD_OPT_EXPORT_NAME is not allowed with extended headers");
    const name = decodeName(data);
    if (name === undefined) throw new HandshakeEnd("malformed export name");
    const opened = yield* openExport(name);
    if (opened === null) throw new HandshakeEnd(`export ${quoted(name)} cannot be opened`);

    const flags = flagsFor(negotiation, name, opened);
    const reply = Buffer.alloc(REPLY_BYTES + (negotiation.sendsZeroes ? ZEROES_BYTES : 0));
    reply.writeBigUInt64BE(opened.sizeBytes, 0);
    reply.writeUInt16BE(flags, 8);
    yield* send(reply);
    return transmit(negotiation, name, flags);
  },
};
