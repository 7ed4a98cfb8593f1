// What an export can do, as transmission flags.

import type { Capabilities, ReplyStyle } from "../addon/types.js";
import {
  NBD_FLAG_BLOCK_STATUS_PAYLOAD,
  NBD_FLAG_CAN_MULTI_CONN,
  NBD_FLAG_HAS_FLAGS,
  NBD_FLAG_READ_ONLY,
  NBD_FLAG_ROTATIONAL,
  NBD_FLAG_SEND_CACHE,
  NBD_FLAG_SEND_DF,
  NBD_FLAG_SEND_FAST_ZERO,
  NBD_FLAG_SEND_FLUSH,
  NBD_FLAG_SEND_FUA,
  NBD_FLAG_SEND_TRIM,
  NBD_FLAG_SEND_WRITE_ZEROES,
} from "../protocol.js";

/** See "Transmission flags" in the specification. */
export function transmissionFlags(
  capabilities: Capabilities,
  replyStyle: ReplyStyle = "simple",
  hasContexts = false,
): number {
  const { canWrite } = capabilities;
  const offered: [boolean, number][] = [
    [true, NBD_FLAG_HAS_FLAGS],
    [!canWrite, NBD_FLAG_READ_ONLY],
    [capabilities.canFlush, NBD_FLAG_SEND_FLUSH],
    [canWrite && capabilities.canFua, NBD_FLAG_SEND_FUA],
    [capabilities.isRotational, NBD_FLAG_ROTATIONAL],
    [canWrite && capabilities.canTrim, NBD_FLAG_SEND_TRIM],
    [canWrite && capabilities.canZero, NBD_FLAG_SEND_WRITE_ZEROES],
    [replyStyle !== "simple", NBD_FLAG_SEND_DF],
    [capabilities.canMultiConn, NBD_FLAG_CAN_MULTI_CONN],
    [capabilities.canCache, NBD_FLAG_SEND_CACHE],
    [canWrite && capabilities.canZero && capabilities.canFastZero, NBD_FLAG_SEND_FAST_ZERO],
    [replyStyle === "extended" && hasContexts, NBD_FLAG_BLOCK_STATUS_PAYLOAD],
  ];
  return offered.reduce((flags, [isOffered, flag]) => (isOffered ? flags | flag : flags), 0);
}
