// Where the calls of a plugin in TypeScript wait for each other, as its thread model asks for: in one
// native queue, whether native code makes a call, or JavaScript does for middleware and handshakes.

import { addon } from "../../addon/addon.js";
import type { NativeTurns } from "../../addon/types.js";
import { sharedName } from "../thread-group.js";
import type { ThreadModelName } from "./definition.js";
import { OPERATIONS, type OpenExport } from "./layer.js";

/** Exports whose operations are to take turns, unless native code sees to that. */
const queues = new WeakMap<OpenExport, NativeTurns>();

/** Where the requests of an export as its plugin has opened it wait; undefined: nowhere. */
export const turnsOf = (opened: OpenExport): NativeTurns | undefined => queues.get(opened);

async function inTurn<T>(queue: NativeTurns, call: () => T | Promise<T>): Promise<T> {
  const turn = new (addon().NativeTurn)(queue);
  await turn.begun();
  try {
    return await call();
  } finally {
    turn.end();
  }
}

/** The export for JavaScript, which may call it at any time. */
export function takingTurns(opened: OpenExport): OpenExport {
  const queue = queues.get(opened);
  if (queue === undefined) return opened;
  const front: Record<string, unknown> = { ...opened };
  for (const name of OPERATIONS) {
    if (name === "close") continue; // which has nothing to wait for, or does so itself
    const operation = opened[name] as (...args: unknown[]) => unknown;
    front[name] = (...args: unknown[]) => inTurn(queue, () => operation(...args));
  }
  return front as unknown as OpenExport;
}

export class PluginTurns {
  readonly #model: ThreadModelName;
  readonly #all: NativeTurns | undefined;

  /** Of one plugin, whose instances on several threads have the same. */
  constructor(model: ThreadModelName = "parallel") {
    this.#model = model;
    if (model === "serialize_all_requests" || model === "serialize_connections")
      this.#all = new (addon().NativeTurns)(sharedName("turns"));
  }

  /** The export with its queue. */
  queued(opened: OpenExport): OpenExport {
    if (this.#model !== "parallel") queues.set(opened, this.#all ?? new (addon().NativeTurns)(""));
    return opened;
  }

  /** A call that is no request's. */
  async run<T>(call: () => T | Promise<T>): Promise<T> {
    return this.#all === undefined ? call() : inTurn(this.#all, call);
  }
}
