// Middleware that sees each request, whichever it is.

import type { Middleware, OpenExport } from "../plugins/script/layer.js";
import type { RequestInfo } from "../plugins/script/requests.js";
import { defineMiddleware } from "./define.js";

/** The commands of NBD, by the names of plugins' callbacks. */
export type RequestName = "pread" | "pwrite" | "flush" | "trim" | "zero" | "cache" | "extents";

export const REQUEST_NAMES: readonly RequestName[] = [
  "pread",
  "pwrite",
  "flush",
  "trim",
  "zero",
  "cache",
  "extents",
];

/** A request on its way to what is behind. */
export interface Call {
  readonly name: RequestName;
  /** In bytes; 0 for a flush. */
  readonly offset: number;
  readonly count: number;
  readonly signal: AbortSignal;
  /** Its result, or a promise of it. May be called more than once. */
  next(): unknown;
}

/** What it returns is what the operation is to return. */
export type Around = (call: Call) => unknown;

function wrapped(behind: OpenExport, around: Around): Record<RequestName, Partial<OpenExport>> {
  const pass = <Result>(
    name: RequestName,
    offset: number,
    count: number,
    { signal }: RequestInfo,
    next: () => Result,
  ): Result => around({ name, offset, count, signal, next }) as Result;
  return {
    pread: {
      read: (buf, offset, request) =>
        pass("pread", offset, buf.length, request, () => behind.read(buf, offset, request)),
    },
    pwrite: {
      write: (buf, offset, request) =>
        pass("pwrite", offset, buf.length, request, () => behind.write(buf, offset, request)),
    },
    flush: {
      flush: (request) => pass("flush", 0, 0, request, () => behind.flush(request)),
    },
    trim: {
      trim: (count, offset, request) =>
        pass("trim", offset, count, request, () => behind.trim(count, offset, request)),
    },
    zero: {
      zero: (count, offset, request) =>
        pass("zero", offset, count, request, () => behind.zero(count, offset, request)),
    },
    cache: {
      cache: (count, offset, request) =>
        pass("cache", offset, count, request, () => behind.cache(count, offset, request)),
    },
    extents: {
      extents: (count, offset, request) =>
        pass("extents", offset, count, request, () => behind.extents(count, offset, request)),
    },
  };
}

/** Every request of `names` goes through `around`, which calls next. `name`: for the log. */
export function wrapRequests(
  name: string,
  around: Around,
  names: readonly RequestName[] = REQUEST_NAMES,
): Middleware {
  return defineMiddleware({
    name,
    async open(next, info) {
      const behind = await next(info);
      const operations = wrapped(behind, around);
      return Object.assign({ ...behind }, ...names.map((request) => operations[request]));
    },
  });
}
