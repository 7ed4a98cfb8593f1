// Every error class and its stable code. Users match the code, not the class or the text.

import { getSystemErrorMap } from "node:util";

/** One for each cause; docs/errors.md says what each means and what to do. */
export type ErrorCode =
  // the command line, and options of serve()
  | "USAGE"
  | "OPTION_UNKNOWN"
  | "OPTION_INVALID"
  // parameters of plugins and filters
  | "PARAMETER_UNKNOWN"
  | "PARAMETER_INVALID"
  | "PARAMETER_MISSING"
  | "PARAMETER_REPEATED"
  // plugins and filters
  | "PLUGIN_NOT_FOUND"
  | "FILTER_NOT_FOUND"
  | "SCRIPT_NOT_FOUND"
  | "SCRIPT_UNLOADABLE"
  | "LIBRARY_UNLOADABLE"
  | "PLUGIN_INVALID"
  | "FILTER_INVALID"
  | "FILTER_MISPLACED"
  | "PLUGIN_FAILED"
  | "FILTER_FAILED"
  | "UNCAUGHT_EXCEPTION"
  | "WORKERS_IMPOSSIBLE"
  | "WORKER_EXITED"
  | "WATCH_IMPOSSIBLE"
  | "RESTART_NEEDED"
  // the server
  | "LISTEN_FAILED"
  | "TLS_UNUSABLE"
  | "ACCEPT_FAILED"
  | "CONNECTION_FAILED"
  | "SERVER_CLOSED"
  | "NOT_A_SOCKET"
  // the command and its process
  | "FILE_UNWRITABLE"
  | "OUTPUT_FAILED"
  | "PROCESS_FAILED"
  | "STREAM_CLOSED"
  | "USER_UNCHANGED"
  | "ADDON_UNLOADABLE"
  | "INTERNAL"
  // copies, by asyncnbd-client
  | "DISK_TOO_SMALL"
  | "SIZE_UNALIGNED"
  | "SAME_DISK"
  | "DISK_IS_DIRECTORY"
  | "SOURCE_CHANGED"
  // tests of plugins
  | "DEPENDENCY_MISSING"
  | "DISK_EMPTY";

/** What an AsyncnbdError has besides its code and message. */
export interface ErrorDetails extends ErrorOptions {
  readonly isLogged?: boolean;
}

export class AsyncnbdError extends Error {
  readonly code: ErrorCode;
  /** The log has the message already: a C plugin has put it there. */
  readonly isLogged: boolean;

  /** `message` says what failed, on what, and what to do; `cause` is what it comes from, if anything. */
  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, "cause" in details ? { cause: details.cause } : undefined);
    this.name = "AsyncnbdError";
    this.code = code;
    this.isLogged = details.isLogged ?? false;
  }
}

/** A mistake on the command line: its message is followed by how to get help. */
export class UsageError extends AsyncnbdError {
  constructor(message: string) {
    super("USAGE", message);
    this.name = "UsageError";
  }
}

/** The message of anything thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Of what the system has refused, its reason alone: Node's message repeats names and paths. */
export function reasonOf(error: unknown): string {
  const { errno } = Object(error) as { errno?: unknown };
  const known = typeof errno === "number" ? getSystemErrorMap().get(errno) : undefined;
  return known?.[1] ?? messageOf(error);
}
