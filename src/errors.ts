// Every error class and its stable code. Users match the code, not the class or the text.

import { getSystemErrorMap } from "node:util";

export type ErrorCode =
  | "USAGE" // the command line makes no sense
  | "CONFIG" // an option or parameter has a value that cannot be used
  | "PLUGIN" // a plugin cannot be loaded, or refused its parameters or the start
  | "LISTEN" // no socket to listen on
  | "SYSTEM"; // the operating system refused something

export class AsyncnbdError extends Error {
  readonly code: ErrorCode;
  /** The log has the message already: a C plugin has put it there. */
  readonly isLogged: boolean;

  /** `message` says what failed, on what, and what to do. */
  constructor(code: ErrorCode, message: string, { isLogged = false } = {}) {
    super(message);
    this.name = "AsyncnbdError";
    this.code = code;
    this.isLogged = isLogged;
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
