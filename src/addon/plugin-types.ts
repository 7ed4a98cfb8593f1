// C plugins, nbdkit's filters and native filters, as native/addon has them for JavaScript.

import type { NativeHold, NativeLog } from "./types.js";

/** undefined: success. Else what went wrong; `isLogged`: the plugin has logged these words. */
export type Failure = { readonly words: string; readonly isLogged: boolean } | undefined;

export interface PluginAbout {
  readonly name: string;
  readonly path: string;
  readonly longname?: string;
  readonly version?: string;
  readonly description?: string;
  readonly configHelp?: string;
  readonly magicConfigKey?: string;
  /** In front of it; clients meet the first. */
  readonly filters?: readonly PluginAbout[];
}

/** A C plugin; call the methods in this order. */
export interface NativePlugin {
  open(): Failure;
  readonly about: PluginAbout;
  /** Sets the plugin's variable NAME_debug_FLAG; false if it has none such. */
  setDebugFlag(flag: string, value: number): boolean;
  load(): void;
  config(key: string, value: string): Failure;
  configComplete(): Failure;
  settleThreadModel(): Failure;
  /** NBDKIT_THREAD_MODEL_*, settled or (before) the most the plugin allows. */
  readonly threadModel: number;
  /** By the plugin, perhaps before there was a server: to be asked before clients are served. */
  readonly isShutdownRequested: boolean;
  /** Requests that were given up and to which the plugin may still reply: do not end it. */
  readonly unansweredRequests: number;
  /**
   * Hands our lines of --dump-plugin to `write`; the plugin prints its own on stdout after.
   * `threadModel`: the least of all.
   */
  dump(write: (lines: string) => void, threadModel: number): void;
  /** An asynchronous plugin may block there: it is not called on this thread. */
  getReady(log: NativeLog | undefined, hold: NativeHold): Promise<Failure>;
  afterFork(): Failure;
  /** The same, before `cleanup`; it may block for ever. */
  drained(log: NativeLog | undefined, hold: NativeHold | undefined): Promise<void>;
  /** If after_fork was called; no session may be left. This and `unload` may block. */
  cleanup(): void;
  unload(): void;
}

/** One of nbdkit's filters; call the methods in this order, each once for each of its places. */
export interface NativeCFilter {
  open(): Failure;
  readonly about: PluginAbout;
  /** Whether it is asked something before a client opens an export. */
  readonly seesClients: boolean;
  /** It has called nbdkit_shutdown while it was started. */
  readonly isShutdownRequested: boolean;
  setDebugFlag(flag: string, value: number): boolean;
  load(): void;
  /** `next` gets what the filter passes on, at once. False: that failed, and the filter ends. */
  config(key: string, value: string, next: (key: string, value: string) => boolean): Failure;
  configComplete(next: () => boolean): Failure;
  /** NBDKIT_THREAD_MODEL_*: the least of what is behind it. */
  settleThreadModel(behind: number): Failure;
  readonly threadModel: number;
  /** The least of all that there are. */
  getReady(threadModel: number): Failure;
  /** Once it is in a chain that has been made. */
  afterFork(): Failure;
  /** If after_fork was called. */
  cleanup(): void;
  unload(): void;
}

/** A filter of native/filters/ with its options, which it checks; or one of nbdkit's. */
export interface NativeFilter {
  readonly name: string;
  readonly options: Readonly<
    Record<
      string,
      string | number | bigint | boolean | readonly string[] | NativeCounters | undefined
    >
  >;
  readonly library?: NativeCFilter;
  /** NBDKIT_THREAD_MODEL_*, the most that it stands of all in the chain; undefined: any. */
  readonly threadModel?: number;
  /** It has to be asked about clients before they open an export. */
  readonly seesClients?: boolean;
}

/** What a stats filter counts, if it is given this. */
export interface NativeCounters {
  /** By the command's number, NBD_CMD_*. */
  of(command: number): RequestStats;
}

/** Of one kind of requests. */
export interface RequestStats {
  readonly requests: number;
  /** Of them. */
  readonly failures: number;
  /** Of those that have not failed. */
  readonly bytes: number;
  /** From the request's arrival at the middleware to its answer. */
  readonly meanMs: number;
  /** These two up to an eighth too long. */
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

/** A chain of native filters that has been made. */
export interface ChainFacts {
  readonly number: number;
  /** Not made by another thread before. */
  readonly isNew: boolean;
  /** Whether it matters which disk a client opens. */
  readonly keepsState: boolean;
  /** Whether the plugin behind is opened read-only for clients that may write. */
  readonly opensReadonly: boolean;
  /** Whether filters see handshakes too, and open what is behind them themselves. */
  readonly opensBehind: boolean;
  /** Whether a filter has the plugin opened for all clients, when it is first needed. */
  readonly opensForAll: boolean;
}
