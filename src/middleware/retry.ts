// The native filter that tries again what has failed.

import type { Middleware } from "../plugins/script/layer.js";
import { nativeMiddleware } from "./define.js";

export interface RetryOptions {
  /** After the first try. By default 5. */
  readonly retries?: number;
  /** Before the first of them, in milliseconds. By default 100. */
  readonly delayMs?: number;
  /** Each delay is twice the one before. By default true. */
  readonly exponential?: boolean;
  /** Once something has failed, the export is only read. By default false. */
  readonly readonly?: boolean;
}

/**
 * When a request fails, what is behind is closed and opened anew, and the request is tried again,
 * unless the client has disconnected. So is an export that cannot be opened.
 */
export function retry({ delayMs = 100, ...others }: RetryOptions = {}): Middleware {
  const options = { ...others, delayMs: Math.ceil(delayMs) };
  return nativeMiddleware({ name: "retry", options });
}
