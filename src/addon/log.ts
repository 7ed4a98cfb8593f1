// Where the lines of one server go: to the log of the process, or to a logger that a program gives.

import { addon } from "./addon.js";
import type { NativeLog } from "./types.js";

/** What pino, console and most others have. A method gets one string, and is called on its object. */
export interface Logger {
  debug(message: string): unknown;
  info(message: string): unknown;
  warn(message: string): unknown;
  error(message: string): unknown;
}

export interface Log {
  error(text: string): void;
  warn(text: string): void;
  info(text: string): void;
  debug(text: string): void;
  /** What C code logs in a call on this thread goes there, too. */
  during<T>(call: () => T): T;
  /** Resolves when what C code has logged until now has come here. */
  drained(): Promise<void>;
  /** For native code; undefined: the process's. */
  readonly native: NativeLog | undefined;
}

/** As the command has configured it: standard error, in a program. */
export const processLog: Log = {
  error: (text) => addon().logError(text),
  warn: (text) => addon().logWarning(text),
  info: (text) => addon().logDebug(text), // the command says such things only if it is verbose
  debug: (text) => addon().logDebug(text),
  during: (call) => call(),
  drained: async () => {},
  native: undefined,
};

/** By base::LogLevel. */
const LEVELS = ["error", "warn", "info", "debug"] as const;

export type LogLevel = (typeof LEVELS)[number];

/** Of a logger that may throw or reject: nobody could be told. */
export function logOf(logger: Logger): Log {
  const write = (level: LogLevel, text: string): void => {
    try {
      const written = logger[level](text);
      if (written instanceof Promise) written.catch(() => {});
    } catch {
      // what is left of it is the program's affair
    }
  };
  const native = new (addon().NativeLog)((level, text) => write(LEVELS[level], text));
  return {
    error: (text) => write("error", text),
    warn: (text) => write("warn", text),
    info: (text) => write("info", text),
    debug: (text) => write("debug", text),
    during(call) {
      native.enter();
      try {
        return call();
      } finally {
        native.leave();
      }
    },
    drained: () => native.drained(),
    native,
  };
}
