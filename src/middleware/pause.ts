// The native filter that has requests wait for as long as an operator wants.

import type { Middleware } from "../plugins/script/layer.js";
import { nativeMiddleware } from "./define.js";

/**
 * `control`: the path of a unix socket that this makes. Who sends "p" to it gets "P" once no request
 * is in progress, and those that come wait until somebody sends "r".
 */
export function pause(control: string): Middleware {
  return nativeMiddleware({ name: "pause", options: { control } });
}
