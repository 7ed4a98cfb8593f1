// What stands in front of plugins: an open export, and the middleware that wraps one.

import type { NativeFilter } from "../../addon/types.js";
import type {
  Awaitable,
  BlockSize,
  Extent,
  ExtentsInfo,
  OpenInfo,
  RequestInfo,
  Status,
  Support,
  WriteInfo,
  ZeroInfo,
} from "./requests.js";

/** What an open export is and can do. Fixed from its opening to its close. */
export interface ExportFacts {
  readonly sizeBytes: number;
  readonly canWrite: boolean;
  readonly canFlush: boolean;
  readonly canTrim: boolean;
  readonly canFastZero: boolean;
  readonly canExtents: boolean;
  readonly canMultiConn: boolean;
  readonly isRotational: boolean;
  /** "emulate": in front of all middleware, the server writes zeroes instead of zeroing. */
  readonly zero: Support;
  /** "emulate": in front of all middleware, the server flushes after a write. */
  readonly fua: Support;
  /** "emulate": in front of all middleware, the server reads instead of caching. */
  readonly cache: Support;
  /** undefined: any will do. */
  readonly blockSize: BlockSize | undefined;
  /** For people; "": none. */
  readonly description: string;
  /** Metadata contexts besides base:allocation, by name. */
  readonly contexts: readonly string[];
}

/**
 * An export that has been opened for one client. Offsets and counts are in bytes, and lie inside the
 * export. An operation fails by throwing or by a promise that is rejected, with an error as
 * `failure` makes it; one that is done returns undefined, or a promise. What the facts say cannot be
 * done is not asked for. Buffers are lent until the answer.
 *
 * Operations are properties of the object and do not use `this`, so that `{ ...next, read }` is one
 * that reads in another way.
 */
export interface OpenExport {
  readonly facts: ExportFacts;
  /** Fills all of `buf`. */
  readonly read: (buf: Buffer, offset: number, request: RequestInfo) => Awaitable<void>;
  readonly write: (buf: Buffer, offset: number, request: WriteInfo) => Awaitable<void>;
  readonly flush: (request: RequestInfo) => Awaitable<void>;
  readonly trim: (count: number, offset: number, request: WriteInfo) => Awaitable<void>;
  readonly zero: (count: number, offset: number, request: ZeroInfo) => Awaitable<void>;
  readonly cache: (count: number, offset: number, request: RequestInfo) => Awaitable<void>;
  /** From `offset` on, at least one. */
  readonly extents: (
    count: number,
    offset: number,
    request: ExtentsInfo,
  ) => Awaitable<Iterable<Extent> | AsyncIterable<Extent>>;
  /** Of a context that `facts` names: from `offset` on, at least one. */
  readonly status: (
    context: string,
    count: number,
    offset: number,
    request: ExtentsInfo,
  ) => Awaitable<Iterable<Status> | AsyncIterable<Status>>;
  /** Last of all, when no request is in progress. */
  readonly close: () => Awaitable<void>;
}

/** The names of an export's operations. */
export const OPERATIONS = [
  "read",
  "write",
  "flush",
  "trim",
  "zero",
  "cache",
  "extents",
  "status",
  "close",
] as const satisfies readonly (keyof OpenExport)[];

/** Opens what is behind, which may be given other words than the client's. */
export type OpenNext = (info: OpenInfo) => Promise<OpenExport>;

/** A client's wish to open an export, as middleware gets it. */
export interface LayerInfo extends OpenInfo {
  /**
   * What the clients of one disk share: a name that the plugin lists is a disk, and all other names
   * are those of its default. Made for the first of them, kept until the server ends.
   */
  readonly shared: <State>(make: () => State) => Promise<State>;
}

/** What middleware does. */
export interface MiddlewareDefinition {
  /** For the log. */
  readonly name: string;
  /**
   * Once for each client that opens an export: calls `next` and returns what stands in front of the
   * result, the result itself perhaps. An error refuses the client. Whoever has opened what is
   * behind closes it, in its own `close` or before it throws.
   */
  readonly open: (next: OpenNext, info: LayerInfo) => Awaitable<OpenExport>;
  /** Before the first client. An error keeps the server from starting. */
  readonly getReady?: () => Awaitable<void>;
  /** After the last client, unless getReady failed. */
  readonly cleanup?: () => Awaitable<void>;
}

/** One of those in front of a plugin: native code, or middleware. */
export type Layer = NativeFilter | MiddlewareDefinition;

export const isNative = (layer: Layer): layer is NativeFilter => "options" in layer;

/** To be called with a plugin, which it returns with itself in front, or given to serve(). */
export interface Middleware {
  <Front extends object>(plugin: Front): Front;
  /**
   * What it consists of: clients meet the first.
   * @internal
   */
  readonly layers: readonly Layer[];
}

export const isMiddleware = (value: unknown): value is Middleware =>
  typeof value === "function" && Array.isArray((value as { layers?: unknown }).layers);
