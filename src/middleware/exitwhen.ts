// The native filter that ends the server when something happens.

import type { Middleware } from "../plugins/script/layer.js";
import { nativeMiddleware } from "./define.js";

/** What it looks for; the first that has happened counts. */
export interface ExitwhenOptions {
  /** Paths. */
  readonly filesCreated?: readonly string[];
  readonly filesDeleted?: readonly string[];
  /** Descriptors of the reading ends of pipes, or of sockets. */
  readonly pipesClosed?: readonly number[];
  /** Numbers of processes. */
  readonly processesExit?: readonly number[];
  /** Commands for a shell: it has happened if they exit with 88. */
  readonly scripts?: readonly string[];
  /** How often it looks, where no client is there. By default 60 s. */
  readonly pollMs?: number;
}

/**
 * The server ends when something has happened, and no client is there any more. So do all other servers
 * of the process.
 */
export function exitwhen(options: ExitwhenOptions): Middleware {
  const { pipesClosed = [], processesExit = [], pollMs = 60_000, ...others } = options;
  return nativeMiddleware({
    name: "exitwhen",
    options: {
      ...others,
      pipesClosed: pipesClosed.map(String),
      processesExit: processesExit.map(String),
      pollMs: Math.ceil(pollMs),
    },
  });
}
