// A plugin that has been opened, as the server uses it, whatever language it is written in.

import type { NativeHold, NativeSession, PluginAbout } from "../addon/types.js";
import type { Client } from "./export-source.js";
import type { Living, OnCall, ParameterValue } from "./life.js";
import type { Layer } from "./script/layer.js";
import type { Awaitable } from "./script/requests.js";

/** What a handshake asks of a plugin, for one client. */
export type HandshakeCalls = Pick<
  NativeSession,
  "preconnect" | "listExports" | "metaContexts" | "openExport" | "closeExport"
>;

/** What happens in its life besides what concerns the server; failures are exceptions. */
export interface PluginInstance extends Omit<Living, "getReady" | "cleanup" | "unload"> {
  readonly about: PluginAbout;
  /** False: there is no such flag. */
  setDebugFlag(flag: string, value: number): boolean;
  /**
   * C plugins get text; others may check the type of what a program gives. `others`: parameters of
   * what is in front of the plugin, one of which may have been meant.
   */
  config(key: string, value: ParameterValue, others?: readonly string[]): void;
  /** --dump-plugin: lines of KEY=VALUE. `leastModel`: of what is in front of it. */
  dump(write: (lines: string) => void, leastModel?: number): Awaitable<void>;
  /** NBDKIT_THREAD_MODEL_*, once it is settled. */
  readonly callModel: number;
  /** Only one export is open at a time: clients wait for each other. */
  readonly serializesConnections: boolean;
  /**
   * `filters`: from now on in front of it; clients meet the first. `hold`: for its calls on other
   * threads, until the end.
   */
  getReady(filters: readonly Layer[], hold: NativeHold): Awaitable<void>;
  /** `onCall` hears of the other calls that the end waits for. */
  cleanup(onCall: OnCall): Awaitable<void>;
  unload(): Awaitable<void>;
  /** After the last client: closes what filters, and then the plugin, have open for all clients. */
  closeForAll(): Promise<void>;
  /** What the client's handshake asks, from now on until it goes to another plugin. */
  callsFor(client: Client): HandshakeCalls;
  /** It wants the server to stop, and may have said so before there was one. */
  readonly isShutdownRequested?: boolean;
  /** Requests that were given up and to which the plugin may still reply: do not end it. */
  readonly unansweredRequests: number;
}
