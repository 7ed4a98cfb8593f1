// The protocol's numbers for tests, by kind: all from the product's table, which
// test/unit/constants.test.ts compares with the specification's.

import * as nbd from "../../src/protocol.js";

/** Options. */
export const OPT = {
  EXPORT_NAME: nbd.NBD_OPT_EXPORT_NAME,
  ABORT: nbd.NBD_OPT_ABORT,
  LIST: nbd.NBD_OPT_LIST,
  STARTTLS: nbd.NBD_OPT_STARTTLS,
  INFO: nbd.NBD_OPT_INFO,
  GO: nbd.NBD_OPT_GO,
  STRUCTURED_REPLY: nbd.NBD_OPT_STRUCTURED_REPLY,
  LIST_META_CONTEXT: nbd.NBD_OPT_LIST_META_CONTEXT,
  SET_META_CONTEXT: nbd.NBD_OPT_SET_META_CONTEXT,
  EXTENDED_HEADERS: nbd.NBD_OPT_EXTENDED_HEADERS,
} as const;

/** Types of replies to options. */
export const REP = {
  ACK: nbd.NBD_REP_ACK,
  SERVER: nbd.NBD_REP_SERVER,
  INFO: nbd.NBD_REP_INFO,
  META_CONTEXT: nbd.NBD_REP_META_CONTEXT,
  ERR_UNSUP: nbd.NBD_REP_ERR_UNSUP,
  ERR_POLICY: nbd.NBD_REP_ERR_POLICY,
  ERR_INVALID: nbd.NBD_REP_ERR_INVALID,
  ERR_PLATFORM: nbd.NBD_REP_ERR_PLATFORM,
  ERR_TLS_REQD: nbd.NBD_REP_ERR_TLS_REQD,
  ERR_UNKNOWN: nbd.NBD_REP_ERR_UNKNOWN,
  ERR_SHUTDOWN: nbd.NBD_REP_ERR_SHUTDOWN,
  ERR_BLOCK_SIZE_REQD: nbd.NBD_REP_ERR_BLOCK_SIZE_REQD,
  ERR_TOO_BIG: nbd.NBD_REP_ERR_TOO_BIG,
  ERR_EXT_HEADER_REQD: nbd.NBD_REP_ERR_EXT_HEADER_REQD,
} as const;

/** Types of requests. */
export const CMD = {
  READ: nbd.NBD_CMD_READ,
  WRITE: nbd.NBD_CMD_WRITE,
  DISC: nbd.NBD_CMD_DISC,
  FLUSH: nbd.NBD_CMD_FLUSH,
  TRIM: nbd.NBD_CMD_TRIM,
  CACHE: nbd.NBD_CMD_CACHE,
  WRITE_ZEROES: nbd.NBD_CMD_WRITE_ZEROES,
  BLOCK_STATUS: nbd.NBD_CMD_BLOCK_STATUS,
} as const;

/** Flags of requests. */
export const FLAG = {
  FUA: nbd.NBD_CMD_FLAG_FUA,
  NO_HOLE: nbd.NBD_CMD_FLAG_NO_HOLE,
  DF: nbd.NBD_CMD_FLAG_DF,
  REQ_ONE: nbd.NBD_CMD_FLAG_REQ_ONE,
  FAST_ZERO: nbd.NBD_CMD_FLAG_FAST_ZERO,
  PAYLOAD_LEN: nbd.NBD_CMD_FLAG_PAYLOAD_LEN,
} as const;

/** Types of information in replies to NBD_OPT_INFO and NBD_OPT_GO. */
export const INFO = {
  EXPORT: nbd.NBD_INFO_EXPORT,
  NAME: nbd.NBD_INFO_NAME,
  DESCRIPTION: nbd.NBD_INFO_DESCRIPTION,
  BLOCK_SIZE: nbd.NBD_INFO_BLOCK_SIZE,
} as const;

/** Transmission flags: what a server says of an export. */
export const EXPORT_FLAG = {
  HAS_FLAGS: nbd.NBD_FLAG_HAS_FLAGS,
  READ_ONLY: nbd.NBD_FLAG_READ_ONLY,
  SEND_FLUSH: nbd.NBD_FLAG_SEND_FLUSH,
  SEND_FUA: nbd.NBD_FLAG_SEND_FUA,
  ROTATIONAL: nbd.NBD_FLAG_ROTATIONAL,
  SEND_TRIM: nbd.NBD_FLAG_SEND_TRIM,
  SEND_WRITE_ZEROES: nbd.NBD_FLAG_SEND_WRITE_ZEROES,
  SEND_DF: nbd.NBD_FLAG_SEND_DF,
  CAN_MULTI_CONN: nbd.NBD_FLAG_CAN_MULTI_CONN,
  SEND_CACHE: nbd.NBD_FLAG_SEND_CACHE,
  SEND_FAST_ZERO: nbd.NBD_FLAG_SEND_FAST_ZERO,
  BLOCK_STATUS_PAYLOAD: nbd.NBD_FLAG_BLOCK_STATUS_PAYLOAD,
} as const;

/** Types of chunks of structured and extended replies. */
export const CHUNK = {
  NONE: nbd.NBD_REPLY_TYPE_NONE,
  OFFSET_DATA: nbd.NBD_REPLY_TYPE_OFFSET_DATA,
  OFFSET_HOLE: nbd.NBD_REPLY_TYPE_OFFSET_HOLE,
  BLOCK_STATUS: nbd.NBD_REPLY_TYPE_BLOCK_STATUS,
  BLOCK_STATUS_EXT: nbd.NBD_REPLY_TYPE_BLOCK_STATUS_EXT,
  ERROR: nbd.NBD_REPLY_TYPE_ERROR,
  ERROR_OFFSET: nbd.NBD_REPLY_TYPE_ERROR_OFFSET,
} as const;

/** The flag of the last chunk of a reply. */
export const DONE = nbd.NBD_REPLY_FLAG_DONE;

/** Flags of extents in base:allocation. */
export const STATE = {
  HOLE: nbd.NBD_STATE_HOLE,
  ZERO: nbd.NBD_STATE_ZERO,
} as const;

/** Errors of replies. */
export const ERRNO = {
  EPERM: nbd.NBD_EPERM,
  EIO: nbd.NBD_EIO,
  ENOMEM: nbd.NBD_ENOMEM,
  EINVAL: nbd.NBD_EINVAL,
  ENOSPC: nbd.NBD_ENOSPC,
  EOVERFLOW: nbd.NBD_EOVERFLOW,
  ENOTSUP: nbd.NBD_ENOTSUP,
  ESHUTDOWN: nbd.NBD_ESHUTDOWN,
} as const;
