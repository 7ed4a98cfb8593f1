// Counters of requests for a native filter, of which those who count look at the same.

import { addon } from "../addon/addon.js";
import type { NativeCounters, RequestStats } from "../addon/types.js";
import { OPERATIONS, type OperationName } from "../protocol.js";
import { sharedName } from "./thread-group.js";

export type { RequestStats };

/** Plugins' callbacks. */
const CALLBACKS = {
  read: "pread",
  write: "pwrite",
  flush: "flush",
  trim: "trim",
  zero: "zero",
  cache: "cache",
  blockStatus: "extents",
} as const satisfies Record<OperationName, string>;

export type Snapshot = Readonly<Partial<Record<(typeof CALLBACKS)[OperationName], RequestStats>>>;

/** By each thread in the same order. */
let made = 0;

export class RequestCounters {
  /** The threads that serve clients of one server have the same. */
  readonly native: NativeCounters = new (addon().NativeCounters)(sharedName(`counters ${++made}`));

  /** Of what there has been. */
  snapshot(): Snapshot {
    const kinds = Object.entries(OPERATIONS).map(
      ([name, command]) => [CALLBACKS[name as OperationName], this.native.of(command)] as const,
    );
    return Object.fromEntries(kinds.filter(([, { requests }]) => requests > 0));
  }
}
