// Turns what a callback has thrown, which may be anything, into an errno and a message.

import { constants } from "node:os";
import { join } from "node:path";
import { packageDirectory } from "../../addon/addon.js";
import { AsyncnbdError } from "../../errors.js";

const ERRNOS: Readonly<Record<string, number>> = constants.errno;
const EIO = ERRNOS.EIO as number;

/** What NBD has an error for ("Error values"), or one that comes close. */
const SENT_TO_CLIENTS: ReadonlySet<string> = new Set(
  ["EPERM", "EROFS", "ENOMEM", "EINVAL", "ENOSPC", "EDQUOT", "EFBIG", "EOVERFLOW"].concat([
    "ENOTSUP",
    "EOPNOTSUPP",
    "ESHUTDOWN",
  ]),
);

/** Longer words are cut: a log is read by people, and clients take fewer still. */
const MAX_LOGGED = 8192;
const MAX_MESSAGE = 2048;
const MAX_SENT = 1024;

/** Failures that have been logged already. */
const logged = new WeakSet<object>();

/** An error for callbacks to throw: failure("ENOSPC", "the quota is used up"). */
export function failure(code: string, message: string): Error & { code: string } {
  return Object.assign(new Error(message), { code });
}

/** The errno of an error's `code` if it would mean something to a client, else EIO. */
function errnoOf(code: unknown): number {
  if (typeof code !== "string" || !SENT_TO_CLIENTS.has(code)) return EIO;
  return ERRNOS[code === "ENOTSUP" ? "EOPNOTSUPP" : code] ?? EIO; // one number on Linux
}

/** Made by failure() or by the system: its message says what is wrong, a stack adds nothing. */
export function isExpected(error: unknown): error is Error {
  const { code } = Object(error) as { code?: unknown };
  return error instanceof Error && typeof code === "string" && Object.hasOwn(ERRNOS, code);
}

/** Of several lines, those after the first begin with spaces: none can pass for another message. */
export const asOneMessage = (text: string): string => text.replace(/\n(?=\S)/g, "\n    ");

/** What is to be done about a request that has failed. */
export interface Failed {
  readonly errno: number;
  /** For the client; "": none. */
  readonly text: string;
  readonly offset: number | undefined;
  /** False: it has been logged already, or is no fault. */
  readonly shouldBeLogged: boolean;
}

const UNREADABLE: Failed = { errno: EIO, text: "", offset: undefined, shouldBeLogged: true };

/** Never throws, whatever the error does when it is looked at. */
export function readFailure(error: unknown): Failed {
  try {
    const { code, offset } = Object(error) as { code?: unknown; offset?: unknown };
    const message: unknown = error instanceof Error ? error.message : "";
    const isOffset = typeof offset === "number" && Number.isSafeInteger(offset) && offset >= 0;
    return {
      errno: errnoOf(code),
      text: typeof message === "string" ? message.slice(0, MAX_SENT) : "",
      offset: isOffset ? offset : undefined,
      shouldBeLogged: code !== "ENOTSUP" && code !== "EOPNOTSUPP" && !isLogged(error),
    };
  } catch {
    return UNREADABLE;
  }
}

/** Stack frames outside the plugin. */
const OURS: readonly string[] = [
  join(packageDirectory, "dist/"),
  "/node_modules/jiti/",
  "(node:internal/",
  "at node:internal/",
];

const isOurs = (line: string): boolean => OURS.some((part) => line.includes(part));

/** With the plugin's own stack, where there is one. Never throws. */
export function describeThrown(error: unknown): string {
  try {
    const text = asOneMessage(cut(textOf(error), MAX_LOGGED));
    return text === "" ? "an error without a message" : text;
  } catch {
    return "an error that cannot be shown";
  }
}

function textOf(error: unknown): string {
  if (error instanceof AsyncnbdError) return error.message;
  if (isExpected(error)) return cut(String(error.message), MAX_MESSAGE);
  if (!(error instanceof Error)) return String(error);
  const { name, message, stack } = error;
  const frames = framesOf(stack, message);
  const words = `${name}: ${cut(String(message), MAX_MESSAGE)}`;
  return frames === "" ? words : `${words}\n${frames}`;
}

/** A stack is a name, a message and then lines, of which some are ours. */
function framesOf(stack: unknown, message: string): string {
  if (typeof stack !== "string") return "";
  const begin = stack.indexOf(message) + message.length;
  const lines = stack.slice(begin, begin + MAX_LOGGED).split("\n");
  return lines.filter((line) => /^\s+at /.test(line) && !isOurs(line)).join("\n");
}

const cut = (text: string, most: number): string =>
  text.length > most ? `${text.slice(0, most)}… (${text.length} characters)` : text;

/** A request's failure that has been logged already, as callbacks throw it. */
export function loggedFailure({
  errno,
  text = "",
  offset,
}: {
  readonly errno: number;
  readonly text?: string;
  readonly offset?: number | undefined;
}): Error & { code: string } {
  const [code = "EIO"] = Object.entries(ERRNOS).find(([, value]) => value === errno) ?? [];
  const error = failure(code === "EOPNOTSUPP" ? "ENOTSUP" : code, text);
  if (offset !== undefined) Object.assign(error, { offset });
  logged.add(error);
  return error;
}

export const isLogged = (error: unknown): boolean =>
  error instanceof AsyncnbdError ? error.isLogged : error instanceof Error && logged.has(error);
