// The native filter that ends what lasts for too long.

import type { Middleware } from "../plugins/script/layer.js";
import { nativeMiddleware } from "./define.js";

/** A client that has an export open for longer is disconnected. By default 60 s; 0: no limit. */
export function timeLimit(timeMs = 60_000): Middleware {
  return nativeMiddleware({ name: "time-limit", options: { timeMs: Math.ceil(timeMs) } });
}
