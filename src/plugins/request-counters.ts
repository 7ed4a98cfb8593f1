// Counters of requests for a native filter, of which those who count look at the same.

import { addon } from "../addon/addon.js";
import type { NativeCounters, RequestStats } from "../addon/types.js";
import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_CACHE,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
} from "../protocol.js";
import { sharedName } from "./thread-group.js";

export type { RequestStats };

/** By the names of plugins' callbacks. */
const COMMANDS = {
  pread: NBD_CMD_READ,
  pwrite: NBD_CMD_WRITE,
  flush: NBD_CMD_FLUSH,
  trim: NBD_CMD_TRIM,
  zero: NBD_CMD_WRITE_ZEROES,
  cache: NBD_CMD_CACHE,
  extents: NBD_CMD_BLOCK_STATUS,
} as const;

export type Snapshot = Readonly<Partial<Record<keyof typeof COMMANDS, RequestStats>>>;

/** By each thread in the same order. */
let made = 0;

export class RequestCounters {
  /** The threads that serve clients of one server have the same. */
  readonly native: NativeCounters = new (addon().NativeCounters)(sharedName(`counters ${++made}`));

  /** Of what there has been. */
  snapshot(): Snapshot {
    const kinds = Object.entries(COMMANDS).map(
      ([name, command]) => [name, this.native.of(command)] as const,
    );
    return Object.fromEntries(kinds.filter(([, { requests }]) => requests > 0));
  }
}
