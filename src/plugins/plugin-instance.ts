// A plugin that has been opened, as the server uses it, whatever language it is written in.

import type { NativeServer, NativeSession, PluginAbout } from "../addon/types.js";
import type { Living } from "./life.js";
import type { Layer } from "./script/layer.js";
import type { Awaitable } from "./script/requests.js";

/** What a handshake asks of a plugin, for one client. */
export type HandshakeCalls = Pick<
  NativeSession,
  | "preconnect"
  | "listExports"
  | "metaContexts"
  | "openExport"
  | "exportDescription"
  | "blockSizes"
  | "closeExport"
>;

/** Descriptors of a client's stream, the same for a socket; and its number, from 1 on. */
export interface ClientStream {
  readonly inFd: number;
  readonly outFd: number;
  readonly number: number;
  readonly readonly: boolean;
  /** Calls of a C plugin in progress at once, if it can take more than one. */
  readonly threads: number;
}

/** A client's, and what its handshake asks. */
export interface NewSession {
  readonly native: NativeSession;
  readonly calls: HandshakeCalls;
}

/** What happens in its life besides what concerns the server; failures are exceptions. */
export interface PluginInstance extends Living {
  readonly about: PluginAbout;
  /** What it consists of, if that is more than one thing; for people. */
  readonly parts?: readonly string[];
  /** False: there is no such flag. */
  setDebugFlag(flag: string, value: number): boolean;
  /** The same of a filter in front of it; undefined: there is no such filter. */
  setFilterDebugFlag?(name: string, flag: string, value: number): boolean | undefined;
  /**
   * C plugins get text; others may check the type of what a program gives. `others`: parameters of
   * what is in front of the plugin, one of which may have been meant.
   */
  config(key: string, value: string | number | boolean, others?: readonly string[]): void;
  /** --dump-plugin: lines of KEY=VALUE. `leastModel`: of what is in front of it. */
  dump(write: (lines: string) => void, leastModel?: number): Awaitable<void>;
  /** NBDKIT_THREAD_MODEL_*, once it is settled. */
  readonly callModel: number;
  /** Only one export is open at a time: clients wait for each other. */
  readonly serializesConnections: boolean;
  /** `filters`: from now on in front of it; clients meet the first. */
  getReady(filters?: readonly Layer[]): Awaitable<void>;
  /** Takes the stream over. */
  newSession(server: NativeServer, stream: ClientStream): NewSession;
  /** It wants the server to stop, and may have said so before there was one. */
  readonly isShutdownRequested?: boolean;
  /** Requests that were given up and to which the plugin may still reply: do not end it. */
  readonly unansweredRequests: number;
}

/** What clients meet, one after the other, and where it comes from. */
export const partsOf = ({ parts, about }: PluginInstance): readonly string[] =>
  parts ?? [`plugin ${about.name} (${about.path})`];
