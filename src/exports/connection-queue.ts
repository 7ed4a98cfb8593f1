// Where clients wait for each other whose plugin has one export open at a time
// (SERIALIZE_CONNECTIONS): each from before it opens one until that is closed.

import { addon } from "../addon/addon.js";
import type { NativeSession, NativeTurn, NativeTurns } from "../addon/types.js";
import type { PluginInstance } from "../plugins/plugin-instance.js";
import { sharedName } from "../plugins/thread-group.js";

/** For the clients of a plugin, on whichever thread they are; undefined: they need not wait. */
export function connectionQueueFor(plugin: PluginInstance): NativeTurns | undefined {
  if (!plugin.serializesConnections) return undefined;
  return new (addon().NativeTurns)(sharedName("connections"));
}

/** A client's place in such a queue. */
export class ConnectionTurn {
  readonly #queue: NativeTurns | undefined;
  readonly #native: NativeSession;
  #turn: NativeTurn | undefined;

  constructor(queue: NativeTurns | undefined, native: NativeSession) {
    this.#queue = queue;
    this.#native = native;
  }

  /** False: it has ended before it came, or the client has hung up. */
  async begin(): Promise<boolean> {
    if (this.#queue === undefined) return true;
    this.#turn = new (addon().NativeTurn)(this.#queue);
    this.#native.watchForEnd(() => this.end());
    const hasBegun = await this.#turn.begun();
    this.#native.watchForEnd(undefined);
    return hasBegun && this.#turn !== undefined;
  }

  /** Of a turn, or of waiting for one, or of neither. */
  end(): void {
    this.#turn?.end();
    this.#turn = undefined;
  }
}
