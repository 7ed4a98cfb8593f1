// The memory of requests, which belongs to native code, as the buffers that plugins get.

import * as threads from "node:worker_threads";
import type { NativeScriptBridge } from "../../addon/types.js";

/** Memory of slots, side by side. */
interface Slab {
  readonly buffer: ArrayBuffer;
  readonly firstSlot: number;
  readonly slotBytes: number;
}

/**
 * It belongs to many requests: no plugin may transfer it to another thread. Newer Nodes see to that
 * themselves, and abort at their end if it is done twice.
 */
export function keepHere(buffer: ArrayBuffer): void {
  const { isMarkedAsUntransferable } = threads as { isMarkedAsUntransferable?(o: object): boolean };
  if (!isMarkedAsUntransferable?.(buffer)) threads.markAsUntransferable(buffer);
}

export class SlotViews {
  readonly #native: NativeScriptBridge;
  // By slot.
  readonly #slabs: Slab[] = [];
  readonly #views: (Buffer | undefined)[] = [];

  constructor(native: NativeScriptBridge) {
    this.#native = native;
  }

  /** A view is made once, and used again while lengths stay the same. */
  view(slot: number, length: number): Buffer {
    let view = this.#views[slot];
    if (view === undefined || view.length !== length) {
      const { buffer, firstSlot, slotBytes } = this.#slabs[slot] ?? this.#adopt(slot);
      view = Buffer.from(buffer, (slot - firstSlot) * slotBytes, length);
      this.#views[slot] = view;
    }
    return view;
  }

  forgetViews(): void {
    this.#views.length = 0;
  }

  #adopt(slot: number): Slab {
    const { buffer, firstSlot, slotBytes, slots } = this.#native.slab(slot);
    keepHere(buffer);
    const slab = { buffer, firstSlot, slotBytes };
    for (let i = 0; i < slots; i++) this.#slabs[firstSlot + i] = slab;
    return slab;
  }
}
