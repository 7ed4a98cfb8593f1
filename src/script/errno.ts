// From what a callback has thrown to an errno for the client.

import { constants } from "node:os";

const ERRNOS: Readonly<Record<string, number>> = constants.errno;
const EIO = ERRNOS.EIO as number;

/** An error for callbacks to throw: failure("ENOSPC", "the quota is used up"). */
export function failure(code: string, message: string): Error & { code: string } {
  return Object.assign(new Error(message), { code });
}

/** The errno of the error's `code` or, as Node's own errors have it, its negative `errno`. */
export function errnoOf(error: unknown): number {
  if (typeof error !== "object" || error === null) return EIO;
  const { code, errno } = error as { code?: unknown; errno?: unknown };
  if (typeof code === "string") {
    if (code === "ENOTSUP") return ERRNOS.EOPNOTSUPP as number; // one number on Linux
    const known = ERRNOS[code];
    if (known !== undefined) return known;
  }
  return typeof errno === "number" && errno < 0 ? -errno : EIO;
}

/** With its stack, where there is one. */
export const describeThrown = (error: unknown): string =>
  error instanceof Error ? (error.stack ?? error.message) : String(error);
