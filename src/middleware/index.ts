// Middleware: each of these stands in front of an opened export.

import type { Middleware } from "../plugins/script/layer.js";
import { nativeMiddleware } from "./define.js";
import { errorsOf } from "./errors.js";
import { REQUEST_NAMES, type RequestName } from "./requests.js";

export type { RequestStats } from "../plugins/request-counters.js";
export type {
  ExportFacts,
  LayerInfo,
  Middleware,
  MiddlewareDefinition,
  OpenExport,
  OpenNext,
} from "../plugins/script/layer.js";
export { type BlocksizeOptions, blocksize, cacheextents, readahead } from "./blocks.js";
export {
  extentlist,
  type FuaOptions,
  fua,
  type NocacheOptions,
  type NozeroOptions,
  nocache,
  noextents,
  nozero,
} from "./capabilities.js";
export { exitlast, limit } from "./clients.js";
export { composed, defineMiddleware } from "./define.js";
export { type ExitwhenOptions, exitwhen } from "./exitwhen.js";
export { type ExportnameOptions, exportname } from "./exportname.js";
export { type IpOptions, ip } from "./ip.js";
export { type MultiConnOptions, multiConn } from "./multi-conn.js";
export { type NoparallelOptions, noparallel } from "./noparallel.js";
export { openonce } from "./openonce.js";
export { pause } from "./pause.js";
export {
  type OffsetOptions,
  offset,
  type PartitionOptions,
  partition,
  protect,
  type TruncateOptions,
  truncate,
} from "./ranges.js";
export { type Around, type Call, type RequestName, wrapRequests } from "./requests.js";
export { type RetryOptions, type RetryRequestOptions, retry, retryRequest } from "./retry.js";
export { type Stats, stats } from "./stats.js";
export { timeLimit } from "./time-limit.js";

/** The export cannot be written. */
export function readonly(): Middleware {
  return nativeMiddleware({ name: "readonly", options: {} });
}

/** In milliseconds; 0 if it is not said. */
export interface DelayOptions {
  /** Before reads, caching and extents, unless there is one for these. */
  readonly readMs?: number;
  /** Before writes, trims and zeroing, unless there is one for these. */
  readonly writeMs?: number;
  readonly flushMs?: number;
  readonly cacheMs?: number;
  readonly extentsMs?: number;
  readonly trimMs?: number;
  readonly zeroMs?: number;
  /** Before an export is opened, and before it is closed. */
  readonly openMs?: number;
  readonly closeMs?: number;
  /** False: where zeroing waits, zeroing that is to be fast is refused at once. By default true. */
  readonly delaysFastZero?: boolean;
}

/** Requests wait before they go on; one whose client leaves meanwhile does not go on. */
export function delay(options: DelayOptions): Middleware {
  const { readMs = 0, writeMs = 0, flushMs = 0, openMs = 0, closeMs = 0 } = options;
  const { cacheMs = readMs, extentsMs = readMs, trimMs = writeMs, zeroMs = writeMs } = options;
  const { delaysFastZero: fastZero = true } = options;
  const times = { readMs, writeMs, flushMs, cacheMs, extentsMs, trimMs, zeroMs, openMs, closeMs };
  const wholeMs = Object.entries(times).map(([name, ms]) => [name, Math.ceil(ms)]);
  return nativeMiddleware({
    name: "delay",
    options: { ...Object.fromEntries(wholeMs), fastZero },
  });
}

export interface CowOptions {
  /** What is copied at once, in bytes, a power of two. By default 64 KiB. */
  readonly blockBytes?: number;
  /** Copy what is read too, so that it is fetched once; or only while this file exists. By default no. */
  readonly onRead?: boolean | string;
  /** Copy what a client asks to be cached; else the plugin may cache it. By default no. */
  readonly onCache?: boolean;
}

/**
 * Clients can write, and see what they have written, but the plugin is never written to: it all
 * goes to a temporary file ($TMPDIR) which is lost when the server ends.
 */
export function cow({ blockBytes, onRead, onCache }: CowOptions = {}): Middleware {
  const onReadPath = typeof onRead === "string" ? onRead : undefined;
  const options = { blockBytes, onCache, onReadPath, onRead: onRead === true };
  return nativeMiddleware({ name: "cow", options });
}

export interface CacheOptions {
  /**
   * "writethrough": a write is answered when the plugin has it. "writeback": it is answered at
   * once, and the plugin gets it at a flush, with FUA, or when there is no room. "unsafe": as that,
   * but flushes and FUA are ignored. By default "writethrough".
   */
  readonly mode?: "writethrough" | "writeback" | "unsafe";
  /** What is fetched and kept at once, a power of two. By default 64 KiB. */
  readonly blockBytes?: number;
  /** Of all blocks of a disk. By default there is no limit but the disk's size. */
  readonly maxBytes?: number;
  /** Of that: where blocks that have not been used for long begin to go. By default 95. */
  readonly highPercent?: number;
  /** Where they cease to. By default 80. */
  readonly lowPercent?: number;
  /** Keep what is read, too; or only while this file exists. By default yes. */
  readonly onRead?: boolean | string;
}

/**
 * Clients share a cache of each disk, in a temporary file ($TMPDIR). With "writeback" a plugin that
 * fails a late write fails the flush; what nobody has flushed is lost when the server ends.
 */
export function cache(options: CacheOptions = {}): Middleware {
  const { mode = "writethrough", onRead = true, ...others } = options;
  const onReadPath = typeof onRead === "string" ? onRead : undefined;
  return nativeMiddleware({
    name: "cache",
    options: { ...others, mode, onReadPath, onRead: onRead === true },
  });
}

export interface ErrorOptions {
  /** How many of the requests fail, from 0 to 1. By default all. */
  readonly rate?: number;
  /** Such as "ENOSPC". By default "EIO". */
  readonly code?: string;
  /** Which fail. By default all kinds. */
  readonly requests?: readonly RequestName[];
  /** They fail only while this file exists. */
  readonly file?: string;
}

/** Some requests fail before they reach the plugin: to test clients. */
export function error(options: ErrorOptions = {}): Middleware {
  const { rate = 1, code = "EIO", requests = REQUEST_NAMES, file } = options;
  return errorsOf(Object.fromEntries(requests.map((name) => [name, { rate, code, file }])));
}

export interface LogOptions {
  /** The path of a file for the lines. */
  readonly file?: string;
  /** Append to it. By default it is emptied first. */
  readonly append?: boolean;
  /** Commands that a shell runs for each line, with variables: see nbdkit-log-filter(1). */
  readonly script?: string;
}

/** What clients do, in the format of nbdkit's log filter. */
export function log({ file, append: appends, script }: LogOptions): Middleware {
  return nativeMiddleware({ name: "log", options: { file, appends, script } });
}

/** In bits a second; without, there is no such limit. Reads and writes are limited apart. */
export interface RateOptions {
  /** For all clients together. */
  readonly bits?: number;
  /** For each. */
  readonly connectionBits?: number;
  /** Files that, as long as they exist, say how many, such as "10M", in place of these. */
  readonly file?: string;
  readonly connectionFile?: string;
  /** After a rest, what comes in so many seconds may pass at once. By default 2. */
  readonly burstSeconds?: number;
}

/**
 * No more is read, and no more is written: so many bytes a second of all clients, after a burst of
 * `burstBytes`, or what the options say.
 */
export function rate(limit: number | RateOptions, burstBytes?: number): Middleware {
  if (typeof limit !== "number") return nativeMiddleware({ name: "rate", options: { ...limit } });
  const burstSeconds = Math.max(0.001, burstBytes === undefined ? 0.1 : burstBytes / limit);
  return rate({ bits: Math.ceil(limit * 8), burstSeconds });
}
