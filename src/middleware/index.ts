// Middleware: each of these stands in front of an opened export.

import { setTimeout as sleep } from "node:timers/promises";
import { failure } from "../plugins/script/errno.js";
import type { Middleware } from "../plugins/script/layer.js";
import { nativeMiddleware } from "./define.js";
import { type RequestName, whenEnded, wrapRequests } from "./requests.js";

export type {
  ExportFacts,
  LayerInfo,
  Middleware,
  MiddlewareDefinition,
  OpenExport,
  OpenNext,
} from "../plugins/script/layer.js";
export { composed, defineMiddleware } from "./define.js";
export { type Around, type Call, type RequestName, wrapRequests } from "./requests.js";
export { type RequestStats, type Stats, stats } from "./stats.js";

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
  /** What is copied at once, in bytes, a power of 2. By default 64 KiB. */
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
  /** What is fetched and kept at once, a power of 2. By default 64 KiB. */
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
  /** Asked at each request; none fails while it says false. */
  readonly isActive?: () => boolean;
}

/** Some requests fail before they reach the plugin: to test clients. */
export function error(options: ErrorOptions = {}): Middleware {
  const { rate = 1, code = "EIO", requests, isActive = () => true } = options;
  return wrapRequests(
    "error",
    (call) => {
      if (Math.random() < rate && isActive()) throw failure(code, `${call.name} was made to fail`);
      return call.next();
    },
    requests,
  );
}

/** Hands a line for each request to `write`: what it was, how long it took, how it ended. */
export function log(write: (line: string) => void): Middleware {
  let requests = 0;
  return wrapRequests("log", (call) => {
    const what = `${call.name} id=${++requests} offset=${call.offset} count=${call.count}`;
    const begun = performance.now();
    return whenEnded(call, (failed) => {
      const took = `${(performance.now() - begun).toFixed(3)} ms`;
      write(failed ? `${what} failed ${took}: ${failed.error}` : `${what} ok ${took}`);
    });
  });
}

export interface RetryOptions {
  /** After the first. By default 5. */
  readonly retries?: number;
  /** Before the first of them. By default 100. */
  readonly delayMs?: number;
  /** Each time so much longer than the time before. By default 2. */
  readonly factor?: number;
  /** By default: not if the error has a code that a repetition would not change. */
  readonly isWorthwhile?: (error: unknown) => boolean;
}

const LASTING: readonly unknown[] = ["EINVAL", "EPERM", "EROFS", "ENOTSUP", "EOPNOTSUPP"];

const mayPass = (thrown: unknown): boolean =>
  !LASTING.includes((Object(thrown) as { code?: unknown }).code);

/** Requests that fail are tried again, unless their client has disconnected. */
export function retry({
  retries = 5,
  delayMs = 100,
  factor = 2,
  isWorthwhile = mayPass,
}: RetryOptions = {}): Middleware {
  return wrapRequests("retry", async (call) => {
    for (let attempt = 0; ; attempt++)
      try {
        return await call.next();
      } catch (thrown) {
        if (attempt >= retries || call.signal.aborted || !isWorthwhile(thrown)) throw thrown;
        await sleep(delayMs * factor ** attempt, undefined, { signal: call.signal });
      }
  });
}

/** No more than so many bytes a second are read and written, after a burst of `burstBytes`. */
export function rate(bytesPerSecond: number, burstBytes = bytesPerSecond / 10): Middleware {
  let allowance = burstBytes;
  let asOf = performance.now();
  return wrapRequests(
    "rate",
    (call) => {
      const now = performance.now();
      allowance = Math.min(burstBytes, allowance + ((now - asOf) * bytesPerSecond) / 1000);
      asOf = now;
      allowance -= call.count; // a debt, which this request and those behind it wait for
      if (allowance >= 0) return call.next();
      const waitMs = (-allowance * 1000) / bytesPerSecond;
      return sleep(waitMs, undefined, { signal: call.signal }).then(() => call.next());
    },
    ["pread", "pwrite"],
  );
}
