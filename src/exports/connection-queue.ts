// Where clients wait for each other whose export one of them has open at a time
// (SERIALIZE_CONNECTIONS): each from before it opens the export until that is closed.

import { addon } from "../addon/addon.js";
import type { NativeSession, NativeTurn, NativeTurns } from "../addon/types.js";
import { sharedName } from "../plugins/thread-group.js";

/** By each thread in the same order. */
let made = 0;

/** For the clients of one export, on whichever thread they are. */
export const makeConnectionQueue = (): NativeTurns =>
  new (addon().NativeTurns)(sharedName(`connections ${++made}`));

/** A client's place in such a queue. */
export class ConnectionTurn {
  readonly #queue: NativeTurns | undefined;
  readonly #native: NativeSession;
  #turn: NativeTurn | undefined;
  #isRef = true;

  /** undefined: nobody need wait. */
  constructor(queue: NativeTurns | undefined, native: NativeSession) {
    this.#queue = queue;
    this.#native = native;
  }

  /** False: it has ended before it came, or the client has hung up. */
  async begin(): Promise<boolean> {
    if (this.#queue === undefined) return true;
    this.#turn = new (addon().NativeTurn)(this.#queue);
    this.#turn.setRef(this.#isRef);
    this.#native.watchForEnd(() => this.end());
    const hasBegun = await this.#turn.begun();
    this.#native.watchForEnd(undefined);
    return hasBegun && this.#turn !== undefined;
  }

  /** Whether the process stays alive while it waits, as it does at first. */
  setRef(isRef: boolean): void {
    this.#isRef = isRef;
    this.#turn?.setRef(isRef);
  }

  /** Of a turn, or of waiting for one, or of neither. */
  end(): void {
    this.#turn?.end();
    this.#turn = undefined;
  }
}
