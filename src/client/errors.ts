// What a client's promises reject with, besides ProtocolError.

import {
  NBD_EINVAL,
  NBD_EIO,
  NBD_ENOMEM,
  NBD_ENOSPC,
  NBD_ENOTSUP,
  NBD_EOVERFLOW,
  NBD_EPERM,
  NBD_ESHUTDOWN,
  NBD_REP_ERR_BLOCK_SIZE_REQD,
  NBD_REP_ERR_EXT_HEADER_REQD,
  NBD_REP_ERR_INVALID,
  NBD_REP_ERR_PLATFORM,
  NBD_REP_ERR_POLICY,
  NBD_REP_ERR_SHUTDOWN,
  NBD_REP_ERR_TLS_REQD,
  NBD_REP_ERR_TOO_BIG,
  NBD_REP_ERR_UNKNOWN,
  NBD_REP_ERR_UNSUP,
} from "../protocol.js";

/** What a request can fail with: "Error values". */
export type RequestErrorCode =
  | "EPERM"
  | "EIO"
  | "ENOMEM"
  | "EINVAL"
  | "ENOSPC"
  | "EOVERFLOW"
  | "ENOTSUP"
  | "ESHUTDOWN";

/** What an option can fail with: "Option reply types". */
export type OptionErrorCode =
  | "NBD_REP_ERR_UNSUP"
  | "NBD_REP_ERR_POLICY"
  | "NBD_REP_ERR_INVALID"
  | "NBD_REP_ERR_PLATFORM"
  | "NBD_REP_ERR_TLS_REQD"
  | "NBD_REP_ERR_UNKNOWN"
  | "NBD_REP_ERR_SHUTDOWN"
  | "NBD_REP_ERR_BLOCK_SIZE_REQD"
  | "NBD_REP_ERR_TOO_BIG"
  | "NBD_REP_ERR_EXT_HEADER_REQD"
  | "NBD_REP_ERR";

const REQUEST_ERRORS: Readonly<Record<number, RequestErrorCode>> = {
  [NBD_EPERM]: "EPERM",
  [NBD_EIO]: "EIO",
  [NBD_ENOMEM]: "ENOMEM",
  [NBD_EINVAL]: "EINVAL",
  [NBD_ENOSPC]: "ENOSPC",
  [NBD_EOVERFLOW]: "EOVERFLOW",
  [NBD_ENOTSUP]: "ENOTSUP",
  [NBD_ESHUTDOWN]: "ESHUTDOWN",
};

const OPTION_ERRORS: Readonly<Record<number, OptionErrorCode>> = {
  [NBD_REP_ERR_UNSUP]: "NBD_REP_ERR_UNSUP",
  [NBD_REP_ERR_POLICY]: "NBD_REP_ERR_POLICY",
  [NBD_REP_ERR_INVALID]: "NBD_REP_ERR_INVALID",
  [NBD_REP_ERR_PLATFORM]: "NBD_REP_ERR_PLATFORM",
  [NBD_REP_ERR_TLS_REQD]: "NBD_REP_ERR_TLS_REQD",
  [NBD_REP_ERR_UNKNOWN]: "NBD_REP_ERR_UNKNOWN",
  [NBD_REP_ERR_SHUTDOWN]: "NBD_REP_ERR_SHUTDOWN",
  [NBD_REP_ERR_BLOCK_SIZE_REQD]: "NBD_REP_ERR_BLOCK_SIZE_REQD",
  [NBD_REP_ERR_TOO_BIG]: "NBD_REP_ERR_TOO_BIG",
  [NBD_REP_ERR_EXT_HEADER_REQD]: "NBD_REP_ERR_EXT_HEADER_REQD",
};

/** An unexpected value counts as EINVAL: "Error values". */
export const requestErrorCode = (value: number): RequestErrorCode =>
  REQUEST_ERRORS[value] ?? "EINVAL";

export const optionErrorCode = (type: number): OptionErrorCode =>
  OPTION_ERRORS[type] ?? "NBD_REP_ERR";

/** The server has refused something, or does not offer it. The connection goes on. */
export class NbdError extends Error {
  readonly code: RequestErrorCode | OptionErrorCode;
  /** "read", "write", …, or the option's name: "NBD_OPT_GO". */
  readonly operation: string;
  /** The server's own words, "" where it sent none. */
  readonly serverMessage: string;
  /** Where in the export the request failed, in bytes, if the server said so. */
  readonly offset: number | undefined;

  constructor(
    code: RequestErrorCode | OptionErrorCode,
    operation: string,
    what: string,
    serverMessage = "",
    offset?: number,
  ) {
    super(`${what}: ${code}${serverMessage === "" ? "" : ` (${serverMessage})`}`);
    this.name = "NbdError";
    this.code = code;
    this.operation = operation;
    this.serverMessage = serverMessage;
    this.offset = offset;
  }
}

/** No connection could be made, or it was lost, or the client is closed. */
export class ConnectionError extends Error {
  /** The system's code, such as "ECONNREFUSED"; "ECONNRESET" if the server has gone. */
  readonly code: string;

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "ConnectionError";
    this.code = code;
  }
}

export const isAbort = (error: unknown): boolean =>
  error instanceof Error && (error.name === "AbortError" || error.name === "TimeoutError");
