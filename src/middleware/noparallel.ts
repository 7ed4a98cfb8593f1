// The native filter that has requests wait for each other.

import type { Middleware } from "../plugins/script/layer.js";
import { nativeMiddleware } from "./define.js";

export interface NoparallelOptions {
  /**
   * "requests": one request of a client at a time. "all-requests": one of all clients. "connections":
   * one client at a time, and one request of its. By default "requests".
   */
  readonly serialize?: "requests" | "all-requests" | "connections";
}

/** By the numbers of thread models, NBDKIT_THREAD_MODEL_*. */
export const SERIALIZED_MODELS = { connections: 0, "all-requests": 1, requests: 2 } as const;

/** Less is done at once than the plugin could do. */
export function noparallel({ serialize = "requests" }: NoparallelOptions = {}): Middleware {
  const threadModel = SERIALIZED_MODELS[serialize];
  return nativeMiddleware({ name: "noparallel", options: { serialize }, threadModel });
}
