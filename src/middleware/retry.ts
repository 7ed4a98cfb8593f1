// The native filters that try again what has failed.

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
 * unless the client has disconnected. So is an export that cannot be opened, except one of a plugin
 * in TypeScript: what that cannot open at first is an error at once.
 */
export function retry({ delayMs = 100, ...others }: RetryOptions = {}): Middleware {
  const options = { ...others, delayMs: Math.ceil(delayMs) };
  return nativeMiddleware({ name: "retry", options });
}

export interface RetryRequestOptions {
  /** After the first try. By default 2. */
  readonly retries?: number;
  /** Before each of them, in milliseconds. By default 2000. */
  readonly delayMs?: number;
  /** Opening is tried again, too. By default true. */
  readonly opens?: boolean;
}

/** Requests that fail are tried again as they are; the export stays open. */
export function retryRequest({ delayMs = 2000, ...others }: RetryRequestOptions = {}): Middleware {
  const options = { ...others, delayMs: Math.ceil(delayMs) };
  return nativeMiddleware({ name: "retry-request", options });
}
