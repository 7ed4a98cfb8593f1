// The native filters that look at who is there, and not at requests.

import type { Middleware } from "../plugins/script/layer.js";
import { nativeMiddleware } from "./define.js";

/** No more clients than `limit` at once; others are refused. By default 1; 0: any number. */
export function limit(limit = 1): Middleware {
  return nativeMiddleware({ name: "limit", options: { limit } });
}

/** The server ends when its last client has left. */
export function exitlast(): Middleware {
  return nativeMiddleware({ name: "exitlast", options: {} });
}
