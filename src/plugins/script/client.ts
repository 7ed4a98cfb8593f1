// Links a ClientInfo to the client's session, hidden from plugins.

import type { NativeSession } from "../../addon/types.js";
import type { ClientInfo } from "./requests.js";

/** The key of the session in a ClientInfo, for C plugins behind middleware. */
const SESSION = Symbol("session");

export function withSession(client: ClientInfo, session: NativeSession): ClientInfo {
  return Object.defineProperty(client, SESSION, { value: session, enumerable: true });
}

/** Of the same object, or of one that has been spread into another. */
export function sessionOf(client: ClientInfo): NativeSession {
  return (client as ClientInfo & { [SESSION]: NativeSession })[SESSION];
}
