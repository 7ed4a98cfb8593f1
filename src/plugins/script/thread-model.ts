// Makes a plugin's requests take turns, where its thread model asks for that.

import { mapStatus } from "./contexts.js";
import type { Plugin } from "./definition.js";

const REQUEST_NAMES = ["pread", "pwrite", "flush", "trim", "zero", "cache", "extents"] as const;

/** Runs functions one after the other, each when the one before it has settled. */
class Turns {
  #last: Promise<unknown> = Promise.resolve();

  run<T>(call: () => T | Promise<T>): Promise<T> {
    const turn = this.#last.then(call);
    this.#last = turn.catch(() => {});
    return turn;
  }
}

type Callback = (handle: unknown, ...rest: unknown[]) => unknown;

/** The plugin, or one in front of it whose requests wait for each other. */
export function serialized(plugin: Plugin): Plugin {
  const { threadModel = "parallel" } = plugin;
  if (threadModel === "parallel") return plugin;
  const all = new Turns();
  const ofHandles = new Map<unknown, Turns>();
  const turnsOf = (handle: unknown): Turns => {
    // With one connection at a time, and with handles that are told apart, a handle is enough.
    if (threadModel === "serialize_all_requests") return all;
    let turns = ofHandles.get(handle);
    if (turns === undefined) {
      turns = new Turns();
      ofHandles.set(handle, turns);
    }
    return turns;
  };
  const front = Object.create(plugin) as Record<string, unknown>;
  for (const name of REQUEST_NAMES) {
    const callback = plugin[name] as Callback | undefined;
    if (callback !== undefined)
      front[name] = (handle: unknown, ...rest: unknown[]) =>
        turnsOf(handle).run(() => callback.call(plugin, handle, ...rest));
  }
  if (plugin.metaContexts !== undefined)
    front.metaContexts = mapStatus(
      plugin.metaContexts,
      ({ status }) =>
        (handle, ...rest) =>
          turnsOf(handle).run(async () => status.call(plugin as never, handle, ...rest)),
    );
  front.close = async (handle: unknown) => {
    ofHandles.delete(handle);
    await plugin.close?.(handle);
  };
  return front as unknown as Plugin;
}
