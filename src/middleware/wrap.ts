// Building blocks of middleware: a plugin in front of another, some of whose callbacks differ.

import { QUESTION_NAMES, REQUEST_NAMES, type RequestName } from "../plugins/script/callbacks.js";
import { mapStatus } from "../plugins/script/contexts.js";
import type { MetaContext, Plugin } from "../plugins/script/definition.js";
import type { OpenInfo } from "../plugins/script/requests.js";

/** From a plugin to one that does something more. */
export type Middleware = (plugin: Plugin) => Plugin;

export { REQUEST_NAMES, type RequestName };

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

const HANDLE_CALLBACKS = [...QUESTION_NAMES, ...REQUEST_NAMES];

/** A handle of middleware that has something of its own beside the handle of the plugin behind. */
export interface Layered<State> {
  readonly inner: unknown;
  readonly state: State;
  /** `this` of the plugin behind, in front of which others may stand. */
  readonly self: Plugin;
}

/**
 * A plugin in front of another whose handles are Layered: `stateOf` is called at each open, and
 * `onClose` before each close. Callbacks that are replaced in the result get such a handle.
 */
export function layer<State>(
  plugin: Plugin,
  stateOf: (inner: unknown, info: OpenInfo, self: Plugin) => State | Promise<State>,
  onClose?: (handle: Layered<State>) => Promise<void>,
): Plugin {
  const front = Object.create(plugin) as Record<string, unknown>;
  for (const name of HANDLE_CALLBACKS) {
    const callback = plugin[name] as Callback | undefined;
    if (callback === undefined) continue;
    front[name] = function (this: unknown, { inner }: Layered<State>, ...rest: unknown[]): unknown {
      return callback.call(this, inner, ...rest);
    };
  }
  if (plugin.metaContexts !== undefined)
    front.metaContexts = mapStatus(
      plugin.metaContexts,
      ({ status }) =>
        function (this: MetaContext<unknown>, handle: unknown, ...rest) {
          return status.call(this, (handle as Layered<State>).inner, ...rest);
        },
    );
  front.open = async function (this: Plugin, info: OpenInfo): Promise<Layered<State>> {
    const inner = await plugin.open?.call(this, info);
    try {
      return { inner, state: await stateOf(inner, info, this), self: this };
    } catch (error) {
      await plugin.close?.call(this, inner);
      throw error;
    }
  };
  front.close = async function (this: Plugin, handle: Layered<State>): Promise<void> {
    try {
      await onClose?.(handle);
    } finally {
      await plugin.close?.call(this, handle.inner);
    }
  };
  return front as unknown as Plugin;
}
