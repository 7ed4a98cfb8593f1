// The native filter that has requests fail.

import type { Middleware } from "../plugins/script/layer.js";
import { nativeMiddleware } from "./define.js";
import type { RequestName } from "./requests.js";

/** What happens to requests of one kind. */
export interface Injection {
  /** From 0 to 1. */
  readonly rate: number;
  readonly code: string;
  /** Only while it exists. */
  readonly file: string | undefined;
}

/** Kinds that are not named do not fail. */
export function errorsOf(
  injections: Readonly<Partial<Record<RequestName, Injection>>>,
): Middleware {
  const options = Object.entries(injections).flatMap(([name, { rate, code, file }]) => [
    [`${name}Rate`, rate],
    [`${name}Code`, code],
    [`${name}File`, file],
  ]);
  return nativeMiddleware({ name: "error", options: Object.fromEntries(options) });
}
