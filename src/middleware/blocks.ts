// The native filters that make requests fit the plugin, or spare it some, or ask it ahead of time.

import type { Middleware } from "../plugins/script/layer.js";
import { nativeMiddleware } from "./define.js";

/** In bytes. By default what the plugin says of itself. */
export interface BlocksizeOptions {
  /** What the plugin is asked for in multiples of: a power of two, 64 KiB at most. */
  readonly minBlock?: number;
  /** The longest read, write or request to cache. By default 64 MiB. */
  readonly maxData?: number;
  /** The longest trim or zeroing. By default nearly 4 GiB. */
  readonly maxLength?: number;
}

/**
 * Clients may read and write any range. The plugin gets whole blocks, and no more at once than it
 * takes; a part of a block is written by reading all of it first.
 */
export function blocksize(options: BlocksizeOptions = {}): Middleware {
  return nativeMiddleware({ name: "blocksize", options: { ...options } });
}

/** The plugin's last answer about extents is kept until somebody writes. */
export function cacheextents(): Middleware {
  return nativeMiddleware({ name: "cacheextents", options: {} });
}

/**
 * Where a client reads one part after the other, what is behind is asked to cache the next ones: the
 * plugin, if it can, or `cache()`.
 */
export function readahead(): Middleware {
  return nativeMiddleware({ name: "readahead", options: {} });
}
