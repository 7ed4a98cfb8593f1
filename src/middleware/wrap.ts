// What all middleware is made with: a plugin in front of another, some of whose callbacks differ.

import type { Plugin } from "../plugins/script/definition.js";

/** From a plugin to one that does something more. */
export type Middleware = (plugin: Plugin) => Plugin;

/** The commands of NBD, as callbacks. */
export type RequestName = "pread" | "pwrite" | "flush" | "trim" | "zero" | "cache" | "extents";
export const REQUEST_NAMES: readonly RequestName[] = [
  "pread",
  "pwrite",
  "flush",
  "trim",
  "zero",
  "cache",
  "extents",
];

/** A request on its way to the plugin behind. */
export interface Call {
  readonly name: RequestName;
  /** In bytes; 0 for a flush. */
  readonly offset: number;
  readonly count: number;
  readonly signal: AbortSignal;
  /** May be called more than once. */
  next(): Promise<unknown>;
}

type Callback = (this: unknown, handle: unknown, ...rest: unknown[]) => unknown;

function callOf(name: RequestName, rest: readonly unknown[], next: () => unknown): Call {
  const [first, offset] = rest as [Buffer | number, number];
  const { signal } = rest[rest.length - 1] as { signal: AbortSignal };
  const isFlush = name === "flush";
  const count = isFlush ? 0 : typeof first === "number" ? first : first.length;
  return { name, offset: isFlush ? 0 : offset, count, signal, next: async () => next() };
}

/** Every request of `names` goes through `around`, which calls next. What is missing stays so. */
export function wrapRequests(
  plugin: Plugin,
  around: (call: Call) => Promise<unknown>,
  names: readonly RequestName[] = REQUEST_NAMES,
): Plugin {
  const front = Object.create(plugin) as Record<string, unknown>;
  for (const name of names) {
    const callback = plugin[name] as Callback | undefined;
    if (callback === undefined) continue;
    // `this` is the server's object in front of us all, which has config and log.
    front[name] = function (this: unknown, handle: unknown, ...rest: unknown[]): unknown {
      return around(callOf(name, rest, () => callback.call(this, handle, ...rest)));
    };
  }
  return front as unknown as Plugin;
}
