// Where the calls of a plugin in TypeScript wait for each other, as its thread model asks for: in one
// native queue, whether native code makes a call, or JavaScript does for middleware and handshakes.

import { addon } from "../../addon/addon.js";
import type { NativeTurn, NativeTurns } from "../../addon/types.js";
import { sharedName } from "../thread-group.js";
import type { ThreadModelName } from "./definition.js";
import { failure } from "./errno.js";
import { OPERATIONS, type OpenExport } from "./layer.js";

/** Exports whose operations are to take turns, unless native code sees to that. */
const queues = new WeakMap<OpenExport, NativeTurns>();

/** Where the requests of an export as its plugin has opened it wait; undefined: nowhere. */
export const turnsOf = (opened: OpenExport): NativeTurns | undefined => queues.get(opened);

/** `held` has the turn, until it ends here or whoever has given up the call ends it. */
async function inTurn<T>(
  queue: NativeTurns,
  call: () => T | Promise<T>,
  held = new Set<NativeTurn>(),
  timeoutMs?: number,
): Promise<T> {
  const turn = new (addon().NativeTurn)(queue);
  held.add(turn);
  let timer: NodeJS.Timeout | undefined;
  try {
    // The export may have been closed between the turn's beginning and this.
    if (!(await turn.begun()) || !held.has(turn))
      throw failure("ESHUTDOWN", "the export is closed");
    if (timeoutMs !== undefined) timer = setTimeout(() => turn.end(), timeoutMs);
    return await call();
  } finally {
    clearTimeout(timer);
    held.delete(turn);
    turn.end();
  }
}

/**
 * The export for JavaScript, which may call it at any time. A call that has not been answered when
 * the export is closed, or after `timeoutMs`, has been given up: others have their turn then.
 */
export function takingTurns(opened: OpenExport, timeoutMs?: number): OpenExport {
  const queue = queues.get(opened);
  if (queue === undefined) return opened;
  const held = new Set<NativeTurn>();
  const front: Record<string, unknown> = { ...opened };
  for (const name of OPERATIONS) {
    if (name === "close") continue;
    const operation = opened[name] as (...args: unknown[]) => unknown;
    front[name] = (...args: unknown[]) => inTurn(queue, () => operation(...args), held, timeoutMs);
  }
  front.close = () => {
    for (const turn of held) turn.end();
    held.clear();
    return opened.close(); // which has nothing to wait for, or does so itself
  };
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
