// Typed declaration of every native symbol, by what it is for; native/addon/ implements them.

import type { NativeDiskMemory } from "./export-types.js";
import type {
  ChainFacts,
  NativeCFilter,
  NativeCounters,
  NativeFilter,
  NativePlugin,
} from "./plugin-types.js";
import type { NativeScriptBridge, NativeTurn, NativeTurns } from "./script-types.js";
import type { NativeExport, NativeLatencies, NativeSession, Refable } from "./session-types.js";

export type * from "./export-types.js";
export type * from "./plugin-types.js";
export type * from "./script-types.js";
export type * from "./session-types.js";

/** Hands lines to JavaScript: onLine, soon. */
export interface NativeLog {
  /** From enter to leave, what is logged on this thread outside of clients' calls goes there. */
  enter(): void;
  leave(): void;
  /** Resolves when what native code has logged until now has been handed on. */
  drained(): Promise<void>;
}

/** For calls of a plugin and its filters that are no client's. */
export interface NativeHold {
  /** Whether the process stays alive during these calls, as it does at first. */
  setRef(isRef: boolean): void;
}

/** What the sessions of one server share. */
export interface NativeServer {
  /** Ends plugins' sleeps and wakes connections that wait for requests. */
  announceStop(): void;
  /** Whether the process stays alive while a client opens what all share, as it does at first. */
  setRef(isRef: boolean): void;
  /** The last call: no new session may be made. Those that have not ended keep what they need. */
  release(): void;
}

/** Where a client is: a process at a unix socket, or an address. */
export type PeerAddress =
  | { readonly kind: "tcp"; readonly address: string; readonly port: number }
  /** 0, both, if the system does not tell. */
  | { readonly kind: "unix"; readonly processId: number; readonly userId: number }
  | { readonly kind: "vsock"; readonly contextId: number; readonly port: number }
  | { readonly kind: "stdio" | "unknown" };

/** Starts paused. Owns its descriptor. */
export interface NativeListener extends Refable {
  resume(): void;
  pause(): void;
  close(): void;
}

/** What the server has made in the file system: it removes nothing else, whatever the path. */
export interface MadeFile {
  readonly path: string;
  readonly device: bigint;
  readonly inode: bigint;
}

export type Listening =
  | {
      readonly fds: readonly number[];
      readonly port: number;
      /** The place of a unix socket on which nobody listened any more. */
      readonly tookOver: boolean;
    }
  | { readonly error: string; readonly fds?: undefined };

/** Paths of PEM files, or of one with pre-shared keys. */
export interface TlsFiles {
  readonly caCertificates?: string;
  readonly certificate?: string;
  readonly key?: string;
  readonly revocations?: string;
  readonly preSharedKeys?: string;
  readonly verifyPeer: boolean;
  readonly minVersion?: "TLSv1.2" | "TLSv1.3";
  readonly maxVersion?: "TLSv1.2" | "TLSv1.3";
  readonly ciphers?: string;
  readonly cipherSuites?: string;
}

export interface Addon {
  /** Sizes, places and flags of what native code shares with TypeScript: see native/addon/layouts.cpp. */
  readonly layouts: Readonly<
    Record<"submission" | "completion" | "script" | "counts", Readonly<Record<string, number>>>
  >;
  /** Of all chains of native filters; false if the filter has no such flag. */
  setFilterDebugFlag(filter: string, flag: string, value: number): boolean;
  /**
   * Clients meet the first filter. A string: what is wrong. Threads that give the same `sharedAs`
   * share the chain of the first of them; "": it is nobody else's. log: for what filters say outside
   * of clients' calls, as with readyChain and dropChain; undefined: the process's.
   */
  makeChain(
    filters: readonly NativeFilter[],
    sharedAs: string,
    log: NativeLog | undefined,
  ): ChainFacts | string;
  /**
   * By whom the chain is new for, once what is behind it is ready. threadModel:
   * NBDKIT_THREAD_MODEL_*, the least of all that there are.
   */
  readyChain(
    chain: number,
    threadModel: number,
    log: NativeLog | undefined,
    hold: NativeHold | undefined,
  ): Promise<void>;
  /** Whether one of its filters has asked for the server's end. */
  isShutdownRequested(chain: number): boolean;
  /** By each thread that has made it, after its last client: what filters keep of disks is gone. */
  dropChain(chain: number, log: NativeLog | undefined, hold: NativeHold | undefined): Promise<void>;
  /** A number for NativeSession.upgradeTls, on any thread; or what is wrong. */
  loadTls(files: TlsFiles): number | string;
  /** Sessions that have begun keep it. */
  dropTls(tls: number): void;
  NativePlugin: new (path: string) => NativePlugin;
  NativeCFilter: new (path: string) => NativeCFilter;
  NativeHold: new () => NativeHold;
  /** onShutdownRequested: a plugin has called nbdkit_shutdown. maxInFlightBytes: of all sessions. */
  NativeServer: new (
    onShutdownRequested: () => void,
    maxInFlightBytes: number,
    log: NativeLog | undefined,
  ) => NativeServer;
  /** level: 0 error, 1 warning, 2 info, 3 debug. onLine may not throw. */
  NativeLog: new (
    onLine: (level: 0 | 1 | 2 | 3, text: string) => void,
  ) => NativeLog;
  NativeScriptBridge: new (onWake: () => void) => NativeScriptBridge;
  /** Threads that give the same `sharedAs` have the same queue; "": it is nobody else's. */
  NativeTurns: new (
    sharedAs: string,
  ) => NativeTurns;
  NativeTurn: new (turns: NativeTurns) => NativeTurn;
  /** Throws if the system has not so much. */
  NativeDiskMemory: new (
    sizeBytes: number,
  ) => NativeDiskMemory;
  /** As NativeTurns. */
  NativeCounters: new (
    sharedAs: string,
  ) => NativeCounters;
  /** As NativeTurns. */
  NativeLatencies: new (
    sharedAs: string,
  ) => NativeLatencies;
  /**
   * threads: calls in progress at once, if the plugin can take more than one. chain: of makeChain.
   * Without a plugin, exports are adopted. isForAll: the session's client is only the first of those who
   * have what it opens.
   */
  NativeExport: new (
    plugin: NativePlugin | undefined,
    session: NativeSession,
    options: { threads: number; readonly: boolean; chain?: number; isForAll?: boolean },
  ) => NativeExport;
  /** Takes the descriptors over, which are the same for a socket. */
  NativeSession: new (
    server: NativeServer,
    options: { inFd: number; outFd: number; number: number; readonly: boolean; threads: number },
  ) => NativeSession;
  /** onClient gets a connected descriptor, or -1 and the errno that keeps clients from being
   * accepted for now. */
  NativeListener: new (
    fd: number,
    onClient: (fd: number, errno: number) => void,
  ) => NativeListener;

  /** By the kind of a listener, and what src/config/listeners/ has of it for the system. */
  listen(kind: string, ...words: readonly string[]): Listening;
  /** Of a connected socket. */
  peerOf(fd: number): PeerAddress;
  /** Two connected unix stream sockets, closed at exec. */
  socketPair(): [number, number];
  /** flock(2) on an open file, until it is closed or the process ends; false: another has it. */
  tryLock(fd: number): boolean;

  /** sink: 0 stderr, 1 syslog, 2 none, 3 the file that openLog has opened. */
  configureLog(program: string, verbose: boolean, sink: 0 | 1 | 2 | 3): void;
  /** Whether debug lines tell what clients open and ask of exports, and their requests. */
  chooseDebugPaths(control: boolean, data: boolean): void;
  /** To append to; what is returned says why it cannot be. */
  openLog(path: string): string | undefined;
  /** Whether to log each connect and disconnect without verbose, too. */
  logClients(wanted: boolean): void;
  logError(text: string): void;
  logWarning(text: string): void;
  logDebug(text: string): void;
  /** The short name in lists of processes; up to 15 characters. */
  nameProcess(name: string): void;
  /**
   * For the command, before it loads a plugin: undoes what Node has done to the signals and
   * descriptors of its process. Inherited descriptors are for programs that plugins start, as the
   * standard streams are; reserved ones, on /dev/null, are closed: plugins get their numbers.
   */
  ownProcess(inheritance: {
    readonly inheritedFds: readonly number[];
    readonly reservedFds: readonly number[];
    readonly ignoredSignals: readonly number[];
  }): void;
  /** On stdout, in order with what C plugins print there. */
  print(text: string): void;
  /** Of stdin and stdout: [in, out]. */
  copyStdio(): [number, number];
  /** /dev/null takes the place of stdin and stdout. */
  silenceStdio(): void;
  /** Of plugins and their programs; the log keeps the stream until configureLog. */
  silenceStderr(): void;
  setStdioSafe(safe: boolean): void;
  /** A datagram for the service manager's socket; what is returned says why it was not sent. */
  notifyManager(socket: string, text: string): string | undefined;
  /** Another program takes this process's place; what is returned says why it has not. */
  execute(path: string, argv: readonly string[]): string;
  becomeSessionLeader(): void;
  exitWithParent(parentPid: number): void;
  /** For a process that ends with its server: C plugins are not unmapped when they end. */
  keepLibraries(): void;

  /**
   * Once, after handlers of these signals: if one is not followed by signalSeen in so many
   * milliseconds, because a callback blocks JavaScript, the process ends. One that comes within a
   * second of another is dropped: the two are one stop.
   */
  guardSignals(signals: readonly number[], graceMs: number): void;
  signalSeen(): void;
  /**
   * The end has come so far: unless the next call, or the end itself, comes within so many
   * milliseconds, the process ends with this status, whatever hangs, and this last line of the log.
   * Lines are never freed: there should be few that differ.
   */
  armWatchdog(ms: number, status: number, lastLine: string): void;
  /** Runs no destructors, under which threads of a plugin's might still be at work. */
  endNow(status: number): never;
  /** The same when the process ends for its own reasons, with its own status. */
  endWithoutDestructors(): void;
  /** Instead of those of the last call: files, and directories that are empty by then. */
  removeAtForcedEnd(files: readonly MadeFile[]): void;
}
