// Native filters that stand one in front of the other, and the chain that native code makes of them.

import { addon } from "../addon/addon.js";
import type { Log } from "../addon/log.js";
import type { ChainFacts, NativeFilter, NativeHold } from "../addon/types.js";
import { AsyncnbdError } from "../errors.js";
import { sharedName } from "./thread-group.js";

/** NBDKIT_THREAD_MODEL_PARALLEL, the most that filters know. */
export const PARALLEL = 3;

/** NBDKIT_THREAD_MODEL_*, the most that the filter stands. */
export const modelOf = ({ library, threadModel = PARALLEL }: NativeFilter): number =>
  library?.threadModel ?? threadModel;

/** It is asked about clients before they open an export. */
export const seesClients = (layer: NativeFilter): boolean =>
  (layer.seesClients || layer.library?.seesClients) ?? false;

/** By each thread in the same order. */
let made = 0;

/** What its filters keep of disks lasts from `getReady` to `drop`. */
export class NativeChain {
  /** Clients meet the first. */
  readonly filters: readonly NativeFilter[];
  readonly #log: Log;
  #facts: ChainFacts | undefined;
  #hold: NativeHold | undefined;

  constructor(filters: readonly NativeFilter[], log: Log) {
    this.filters = filters;
    this.#log = log;
  }

  /** After what is behind it. `threadModel`: NBDKIT_THREAD_MODEL_* of that. */
  async getReady(threadModel: number, hold?: NativeHold): Promise<void> {
    this.#hold = hold;
    const least = Math.min(threadModel, PARALLEL, ...this.filters.map(modelOf));
    const sharedAs = sharedName(`chain ${++made}`);
    const facts = addon().makeChain(this.filters, sharedAs, this.#log.native);
    if (typeof facts === "string") throw new AsyncnbdError("FILTER_FAILED", facts);
    this.#facts = facts;
    try {
      if (facts.opensForAll && sharedAs !== "")
        throw new AsyncnbdError(
          "WORKERS_IMPOSSIBLE",
          "filter openonce: each worker has a plugin of its own",
        );
      if (facts.isNew) await addon().readyChain(facts.number, least, this.#log.native, hold);
    } catch (error) {
      await this.drop();
      throw error;
    }
  }

  /** After the last client: what a filter has opened for all clients. */
  async closeForAll(): Promise<void> {
    if (this.#facts?.opensForAll) await this.drop();
  }

  /** The same. */
  async drop(): Promise<void> {
    const facts = this.#facts;
    this.#facts = undefined;
    if (facts !== undefined) await addon().dropChain(facts.number, this.#log.native, this.#hold);
  }

  /** A filter wants the server to stop, and may have said so before there was one. */
  get isShutdownRequested(): boolean {
    return this.#facts !== undefined && addon().isShutdownRequested(this.#facts.number);
  }

  get seesClients(): boolean {
    return this.filters.some(seesClients);
  }

  get facts(): ChainFacts {
    if (this.#facts === undefined)
      throw new AsyncnbdError("INTERNAL", "a chain was used too early");
    return this.#facts;
  }
}
