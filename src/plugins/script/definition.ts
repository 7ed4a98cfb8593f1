// What a plugin written in TypeScript is made of: definePlugin and its types.

import type { ConfigOf, ConfigSpec } from "./config-spec.js";
import type { Middleware } from "./layer.js";
import type {
  Awaitable,
  BlockSize,
  ClientInfo,
  Extent,
  ExtentsInfo,
  OpenInfo,
  RequestInfo,
  Status,
  Support,
  WriteInfo,
  ZeroInfo,
} from "./requests.js";

/** How many requests a plugin accepts at once; nbdkit's names. "parallel" by default. */
export type ThreadModelName =
  | "serialize_connections"
  | "serialize_all_requests"
  | "serialize_requests"
  | "parallel";

/** Metadata of a plugin's own that clients can select by its name ("Metadata querying"). */
export interface MetaContext<Handle> {
  /** Of a status: by default 32. Only clients with extended headers can select one with 64. */
  readonly bits?: 32 | 64;
  /** Whether this export has it. By default each one does. */
  isOffered?(info: OpenInfo): Awaitable<boolean>;
  /** From `offset` on, at least one. */
  status(
    handle: Handle,
    count: number,
    offset: number,
    request: ExtentsInfo,
  ): Awaitable<Iterable<Status> | AsyncIterable<Status>>;
}

export type ListedExport = string | { readonly name: string; readonly description?: string };

/** `this` in every callback. */
export interface PluginContext<Spec extends ConfigSpec> {
  /** The parameters, checked. */
  readonly config: ConfigOf<Spec>;
  /** Lines in the server's log, under the plugin's name. */
  readonly log: PluginLog;
}

export interface PluginLog {
  error(text: string): void;
  warn(text: string): void;
  /** Shown with --verbose only. */
  debug(text: string): void;
}

/**
 * The callbacks of a plugin; nbdkit's, whose manual page nbdkit-plugin(3) says more of each. Only
 * `name`, `getSize` and `pread` are needed. Each may be asynchronous. One that throws fails its
 * request: an error's `code`, such as "ENOSPC", goes to the client if it is one that NBD knows,
 * else the client gets EIO.
 *
 * A request's `buf` is the plugin's from the call until it has returned, or its promise has
 * settled; then it belongs to another request. Keep a copy, never the buffer.
 */
export interface PluginDefinition<Spec extends ConfigSpec, Handle> {
  readonly name: string;
  readonly longname?: string;
  readonly version?: string;
  readonly description?: string;
  /** The parameters on the command line, or of serve(). */
  readonly config?: Spec;
  readonly threadModel?: ThreadModelName;
  /** A request without an answer after so long fails with EIO. By default, none does. */
  readonly requestTimeoutMs?: number;
  /** In front of the plugin: clients meet the first. */
  readonly middleware?: readonly Middleware[];

  // ---- the server's life

  /** First of all. */
  load?(): Awaitable<void>;
  /** The parameters are there, and checked one by one: check how they go together. */
  configComplete?(): Awaitable<void>;
  /** More lines for --dump-plugin. */
  dumpPlugin?(): Awaitable<Readonly<Record<string, string | number | boolean>>>;
  /** Before the server listens, and before it goes to the background. */
  getReady?(): Awaitable<void>;
  /** In the background, before the first client. Start timers and open connections here. */
  afterFork?(): Awaitable<void>;
  /** After the last client. */
  cleanup?(): Awaitable<void>;
  /** Last of all. */
  unload?(): Awaitable<void>;

  // ---- a client's

  /** Besides base:allocation, by names such as "x-example:dirty". */
  readonly metaContexts?: Readonly<Record<string, MetaContext<Handle>>>;

  /** A client has connected; false or an error rejects it. */
  preconnect?(client: ClientInfo): Awaitable<boolean | undefined>;
  listExports?(client: ClientInfo): Awaitable<readonly ListedExport[]>;
  /** What a client gets that asks for "". By default "" itself. */
  defaultExport?(client: ClientInfo): Awaitable<string>;
  /** Its result is the first argument of all that follows. */
  open?(info: OpenInfo): Awaitable<Handle>;
  close?(handle: Handle): Awaitable<void>;
  exportDescription?(handle: Handle): Awaitable<string | undefined>;

  // ---- what an export can do; asked once, after open

  /** In bytes. */
  getSize(handle: Handle): Awaitable<number | bigint>;
  blockSize?(handle: Handle): Awaitable<BlockSize | undefined>;
  /** By default: whether there is `pwrite`. */
  canWrite?(handle: Handle): Awaitable<boolean>;
  /** By default: whether there is `flush`. */
  canFlush?(handle: Handle): Awaitable<boolean>;
  /** By default: whether there is `trim`. */
  canTrim?(handle: Handle): Awaitable<boolean>;
  /** Whether to call `zero`; if not, `pwrite` writes zeroes. By default: whether there is one. */
  canZero?(handle: Handle): Awaitable<boolean>;
  canFastZero?(handle: Handle): Awaitable<boolean>;
  /** By default "emulate" if there is `flush`, else "none". */
  canFua?(handle: Handle): Awaitable<Support>;
  /** By default "native" if there is `cache`, else "none". */
  canCache?(handle: Handle): Awaitable<Support>;
  /** By default: whether there is `extents`. */
  canExtents?(handle: Handle): Awaitable<boolean>;
  /** A flush on one connection covers what was written on all. By default no. */
  canMultiConn?(handle: Handle): Awaitable<boolean>;
  isRotational?(handle: Handle): Awaitable<boolean>;

  /**
   * The memory that the export lies in, from its first byte on: a Buffer that `allocateDisk` has
   * made, or a part of one; undefined: it does not. Asked once, after `getSize`. Large requests are
   * then received into it and sent from it without a copy: the `buf` that `pread` and `pwrite` get
   * is that part of it, so that a copy from there or to there has nothing to do. The bytes of a
   * write are there before `pwrite` is called, and remain if it fails or the client leaves.
   */
  memory?(handle: Handle): Awaitable<Buffer | undefined>;

  // ---- requests; offsets and counts in bytes, inside the export

  /** Fills all of `buf`. */
  pread(handle: Handle, buf: Buffer, offset: number, request: RequestInfo): Awaitable<void>;
  pwrite?(handle: Handle, buf: Buffer, offset: number, request: WriteInfo): Awaitable<void>;
  /** What has been written and answered is on stable storage when this is done. */
  flush?(handle: Handle, request: RequestInfo): Awaitable<void>;
  trim?(handle: Handle, count: number, offset: number, request: WriteInfo): Awaitable<void>;
  zero?(handle: Handle, count: number, offset: number, request: ZeroInfo): Awaitable<void>;
  cache?(handle: Handle, count: number, offset: number, request: RequestInfo): Awaitable<void>;
  /**
   * From `offset` on, at least one. If it answers without a promise, it is asked about large reads
   * too, and what it calls zero is not read.
   */
  extents?(
    handle: Handle,
    count: number,
    offset: number,
    request: ExtentsInfo,
  ): Awaitable<Iterable<Extent>> | AsyncIterable<Extent>;
}

// biome-ignore lint/suspicious/noExplicitAny: callbacks of any handle and any parameters
export type Plugin = PluginDefinition<any, any>;

/**
 * Does nothing but type its argument: default exports of plugins look best with it.
 *
 * @example
 * export default definePlugin({
 *   name: "ram",
 *   config: { size: "size" },
 *   open() { return Buffer.alloc(this.config.size); },
 *   getSize: (disk) => disk.length,
 *   pread: (disk, buf, offset) => { disk.copy(buf, 0, offset); },
 *   pwrite: (disk, buf, offset) => { buf.copy(disk, offset); },
 * });
 */
export function definePlugin<
  const Spec extends ConfigSpec = Record<never, never>,
  Handle = undefined,
>(
  plugin: PluginDefinition<Spec, Handle> & ThisType<PluginContext<Spec>>,
): PluginDefinition<Spec, Handle> {
  return plugin;
}
