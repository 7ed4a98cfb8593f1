// From what a callback has thrown to an errno for the client.

import { constants } from "node:os";

const ERRNOS: Readonly<Record<string, number>> = constants.errno;
const EIO = ERRNOS.EIO as number;

/** What NBD has an error for ("Error values"), or one that comes close. */
const TOLD: ReadonlySet<string> = new Set(
  ["EPERM", "EROFS", "ENOMEM", "EINVAL", "ENOSPC", "EDQUOT", "EFBIG", "EOVERFLOW"].concat([
    "ENOTSUP",
    "EOPNOTSUPP",
    "ESHUTDOWN",
  ]),
);

/** An error for callbacks to throw: failure("ENOSPC", "the quota is used up"). */
export function failure(code: string, message: string): Error & { code: string } {
  return Object.assign(new Error(message), { code });
}

/** The errno of the error's `code` if it would mean something to a client, else EIO. */
export function errnoOf(error: unknown): number {
  const { code } = Object(error) as { code?: unknown };
  if (typeof code !== "string" || !TOLD.has(code)) return EIO;
  return ERRNOS[code === "ENOTSUP" ? "EOPNOTSUPP" : code] ?? EIO; // one number on Linux
}

/** Of several lines, those after the first begin with spaces: none can pass for another message. */
export const asOneMessage = (text: string): string => text.replace(/\n(?=\S)/g, "\n    ");

/** With its stack, where there is one. */
export const describeThrown = (error: unknown): string =>
  asOneMessage(error instanceof Error ? (error.stack ?? error.message) : String(error));

/** From an errno to what callbacks throw, of a failure that has been logged already. */
export function loggedFailure(errno: number): Error & { code: string } {
  const [code = "EIO"] = Object.entries(ERRNOS).find(([, value]) => value === errno) ?? [];
  return failure(code === "EOPNOTSUPP" ? "ENOTSUP" : code, "");
}

export const isLogged = (error: unknown): boolean => error instanceof Error && error.message === "";
