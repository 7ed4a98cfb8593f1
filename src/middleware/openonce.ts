// The native filter that has the plugin opened once.

import type { Middleware } from "../plugins/script/layer.js";
import { nativeMiddleware } from "./define.js";

/**
 * An export is opened for its first client, all share it, and it is closed when the server ends. What
 * is to see each client stands in front of this.
 */
export function openonce(): Middleware {
  return nativeMiddleware({ name: "openonce", options: {} });
}
