// -u and -g: gives up root once the sockets are open.

import { AsyncnbdError, reasonOf } from "../errors.js";

/** A number that is no name is an ID; Node looks names up. */
const nameOrId = (text: string): string | number => (/^\d+$/.test(text) ? Number(text) : text);

export function changeUser(user: string | undefined, group: string | undefined): void {
  try {
    if (group !== undefined) {
      process.setgid?.(nameOrId(group));
      process.setgroups?.([nameOrId(group)]);
    }
    if (user !== undefined) process.setuid?.(nameOrId(user));
  } catch (error) {
    const wanted = [user && `user ${user}`, group && `group ${group}`].filter(Boolean);
    const words = `cannot change to ${wanted.join(", ")}: ${wordsOf(error)}`;
    throw new AsyncnbdError("USER_UNCHANGED", words, { cause: error });
  }
}

const wordsOf = (error: unknown): string =>
  Object(error).code === "ERR_UNKNOWN_CREDENTIAL"
    ? "there is no such user or group"
    : reasonOf(error);
