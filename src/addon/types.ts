// Typed declaration of every native symbol; native/addon/ implements them.

import type { ClientLimits } from "../client-limits.js";

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
  getReady(): Failure;
  afterFork(): Failure;
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

/** Requests to plugins in JavaScript; src/plugins/script/bridge.ts is its other half. */
export interface NativeScriptBridge {
  /**
   * Takes completions out of the batch and puts `most` submissions into it, or fewer: returns how
   * many. If there are none, onWake is called when one has come, unless `most` is 0.
   */
  exchange(completions: number, most: number): number;
  /** Before the completion of an operation with an error: words for the client. */
  explain(operation: number, text: string, offset: number | undefined): void;
  /** The numbers of the contexts that a block status asks about. */
  question(operation: number): number[];
  /**
   * Before its success: for each context a count, and as many extents of three numbers, the length
   * and the lower and the upper half of the flags. False: that makes no sense.
   */
  answer(operation: number, numbers: Float64Array): boolean;
  /** From time to time: gives memory back to the system. False: there is none left. */
  trim(): boolean;
  /**
   * Before the success of a read that may have holes: `extents` are lengths and flags by turns.
   * Returns offsets and lengths of what is data; undefined if that is all.
   */
  sparse(operation: number, extents: Float64Array): Float64Array | undefined;
  /** Submissions and completions. */
  batch(): [ArrayBuffer, ArrayBuffer];
  /** The memory around a slot. To be asked for once. */
  slab(slot: number): { buffer: ArrayBuffer; firstSlot: number; slotBytes: number; slots: number };
}

/**
 * An export of a C plugin, or one behind native filters, for one client, whose requests come from
 * JavaScript. As with NativeSession: await each promise before the next call, but those of `request`.
 */
export interface NativeExport {
  preconnect(): Promise<boolean>;
  listExports(): Promise<ExportEntry[] | null>;
  /** null: there is none. */
  defaultExport(): Promise<string | null>;
  openExport(name: string, wanted: WantedFacts): Promise<OpenedExport | null>;
  closeExport(): Promise<void>;
  /** As NativeSession's. */
  adoptExport: NativeSession["adoptExport"];
  metaContexts: NativeSession["metaContexts"];
  /**
   * NBD_CMD_* and NBD_CMD_FLAG_*; `data` for a read, which fills it, and a write; `context` for a
   * block status: its number, 0 for base:allocation. Resolves with undefined for success, or the
   * extents of a block status: each a length and the lower and the upper half of its flags.
   */
  request(
    command: number,
    flags: number,
    offset: number,
    count: number,
    data?: Uint8Array,
    context?: number,
  ): Promise<readonly number[] | FailedRequest | undefined>;
  /** The last call, with no export open. */
  release(): void;
}

/** A request's failure, which has been logged, with words for the client and where it happened. */
export interface FailedRequest {
  readonly errno: number;
  readonly text?: string;
  readonly offset?: number;
}

/** A queue for turns, one at a time, at a plugin in JavaScript: of its requests, and of NativeTurn. */
export type NativeTurns = { readonly [turns]: true };
declare const turns: unique symbol;

/** A turn that JavaScript asks for itself. */
export interface NativeTurn {
  /** Resolves once it has come; with false, if it has ended before. */
  begun(): Promise<boolean>;
  /** Of a turn, or of waiting for one. */
  end(): void;
  /** Whether the process stays alive while it waits, as it does at first. */
  setRef(isRef: boolean): void;
}

/** Hands lines to JavaScript: onLine, soon. */
export interface NativeLog {
  /** From enter to leave, what is logged on this thread outside of clients' calls goes there. */
  enter(): void;
  leave(): void;
  /** Resolves when what native code has logged until now has been handed on. */
  drained(): Promise<void>;
}

/** What the sessions of one server share. */
export interface NativeServer {
  /** Ends plugins' sleeps and wakes connections that wait for requests. */
  announceStop(): void;
  /** The last call: no new session may be made. Those that have not ended keep what they need. */
  release(): void;
}

export interface Capabilities {
  readonly sizeBytes: bigint;
  readonly canWrite: boolean;
  readonly canFlush: boolean;
  readonly isRotational: boolean;
  readonly canTrim: boolean;
  readonly canZero: boolean;
  readonly canFastZero: boolean;
  readonly canFua: boolean;
  readonly canMultiConn: boolean;
  readonly canCache: boolean;
  /** It knows of holes and zeroes; if not, all counts as data. */
  readonly canExtents: boolean;
}

/** An export as a plugin in JavaScript has described it. */
export interface DescribedExport {
  readonly capabilities: ScriptCapabilities;
  /** For what is in front of it. */
  readonly description: string;
  readonly blockSizes: BlockSizes;
  /** Where its requests wait for each other; undefined: they do not. */
  readonly turns: NativeTurns | undefined;
}

/**
 * Answers what native filters ask of what is in JavaScript behind them. Calls `done` once: with
 * nothing if that has failed, which has been logged then, or for "open" with the export's number as a
 * connection of the bridge and what describes it, for the others with what they ask for. `name`: of
 * what is to be opened.
 */
export type Answer = (
  question: "open" | "preconnect" | "listExports" | "defaultExport",
  name: string,
  readonly: boolean,
  done: (
    given?: number | boolean | string | readonly ExportEntry[],
    described?: DescribedExport,
  ) => void,
) => void;

export interface AdoptedExport extends Partial<DescribedExport> {
  readonly name: string;
  /** Whose state the chain is to use: a name that the plugin lists, or "" for all others. */
  readonly disk: string;
  readonly answer: Answer;
}

type Asked = [] | [bridge: NativeScriptBridge, answer: Answer];

type Support = "none" | "emulate" | "native";

export interface ScriptCapabilities extends Omit<Capabilities, "canZero" | "canFua" | "canCache"> {
  readonly zero: Support;
  readonly fua: Support;
  readonly cache: Support;
  /** A second connection of a client would wait for the first. */
  readonly serializesConnections: boolean;
  /** Clients that were told of block sizes must keep to them. */
  readonly blockSizesBind: boolean;
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

/** What a plugin in C is asked only if somebody wants to know it, as by nbdkit. */
export interface WantedFacts {
  readonly description: boolean;
  readonly blockSizes: boolean;
}

/** All that is known of it, as long as it is open. */
export interface OpenedExport extends Capabilities {
  /** The name the export has when the client asked for the default one with "". */
  readonly name: string;
  /** "": there is none, or nobody wanted it. */
  readonly description: string;
  /** If wanted; null: the plugin failed to tell, and why has been logged. */
  readonly blockSizes: BlockSizes | null;
}

export interface ExportEntry {
  readonly name: string;
  readonly description: string;
}

/** A metadata context besides base:allocation. */
export interface MetaContextEntry {
  readonly name: string;
  /** Of its status; more than 32 need extended headers. */
  readonly bits: 32 | 64;
  /** The plugin's for it, from 1 on. */
  readonly number: number;
}

/** Minimum, preferred and maximum in bytes; all 0 if the plugin has nothing to say. */
export type BlockSizes = readonly [number, number, number];

/** Whether the event loop stays alive for it, as it does at first. */
interface Refable {
  setRef(isRef: boolean): void;
}

/**
 * One client. Await each promise before the next call; only stop and abort may come at any time.
 * Plugin calls run on native threads and may take as long as they like.
 */
export interface NativeSession extends Refable {
  /**
   * At which plugin the client is, from now on: a name if it is in JavaScript; and the number of the
   * chain in front of it. No export may be open, and nothing pending.
   */
  enter(plugin: NativePlugin | string, chain: number | undefined): void;

  /** Exactly that many bytes, at most 64 MiB; null when the client has disconnected. */
  read(bytes: number): Promise<Uint8Array | null>;
  /** Drops bytes; null when the client has disconnected. */
  skip(bytes: number): Promise<true | null>;
  /** Sends all; null when the client has disconnected. */
  write(bytes: Uint8Array): Promise<true | null>;

  /** By a number of Addon.loadTls. A string: why it failed. */
  upgradeTls(tls: number): Promise<true | string | null>;
  /** All is encrypted. */
  readonly isTls: boolean;

  // Where native filters are to ask JavaScript, who is to answer is the next three's last arguments.

  /** False: the plugin rejects the client. */
  preconnect(...asked: Asked): Promise<boolean>;
  /** null: the plugin failed, and has logged why. */
  listExports(...asked: Asked): Promise<ExportEntry[] | null>;
  /** What "" stands for; null: there is none, which has been logged. */
  defaultExport(...asked: Asked): Promise<string | null>;
  /** null: the plugin failed, and has logged why. */
  metaContexts(exportName: string): Promise<MetaContextEntry[] | null>;
  /** null: it cannot be opened, and why has been logged. */
  openExport(name: string, wanted: WantedFacts, ...asked: Asked): Promise<OpenedExport | null>;
  closeExport(): Promise<void>;
  /**
   * Instead of openExport: JavaScript has opened one, which closeExport or the end of the connection
   * has the bridge close; or, if `connection` is undefined, will when a filter wants it. Resolves with what clients are to see of it behind the chain; null: the
   * chain cannot be opened, why has been logged, and the bridge has been asked to close it.
   */
  adoptExport(
    bridge: NativeScriptBridge,
    connection: number | undefined,
    adopted: AdoptedExport,
    wanted: WantedFacts,
  ): Promise<OpenedExport | null>;

  /**
   * While no other promise is pending: calls `onEnd` once the client has hung up, though nothing is
   * read. With undefined, no longer.
   */
  watchForEnd(onEnd: (() => void) | undefined): void;

  /**
   * Serves requests on the open export; resolves when all is closed.
   */
  start(settings: TransmissionSettings & Agreement): Promise<EndOfTransmission>;
  /** Between start and its end. */
  counts(): ConnectionCounts | undefined;
  /** Answers what has arrived, then closes. To be called before NativeServer.announceStop. */
  stop(graceMs: number): void;
  /** Ends handshake or transmission at once. An open export is still to be closed. */
  abort(): void;

  /**
   * A line that begins with "client PEER:". Trouble ("refused: …") is a warning, limited in rate;
   * an event ("connected") is logged with logClients, else with verbose.
   */
  logTrouble(what: string): void;
  logEvent(what: string): void;
}

/**
 * "client": it has disconnected; "stalled": it did not go on with a request, or did not read its replies;
 * "failed": the connection, or the protocol; "plugin": the plugin has disconnected it.
 */
export type TransmissionEnd = "client" | "stalled" | "failed" | "plugin";

export interface EndOfTransmission extends ConnectionCounts {
  readonly reason: TransmissionEnd;
  /** More of it, in words, if the connection has failed. */
  readonly failure?: string;
}

/** Where a client is: a process at a unix socket, or an address. */
export type PeerAddress =
  | { readonly kind: "tcp"; readonly address: string; readonly port: number }
  /** 0, both, if the system does not tell. */
  | { readonly kind: "unix"; readonly processId: number; readonly userId: number }
  | { readonly kind: "vsock"; readonly contextId: number; readonly port: number }
  | { readonly kind: "stdio" | "unknown" };

export interface RequestCounts {
  readonly requests: number;
  /** Answered with an error. */
  readonly failedRequests: number;
  /** That clients have asked for. */
  readonly readBytes: number;
  readonly writtenBytes: number;
  /** Whose replies have not left yet. */
  readonly inFlight: number;
}

/** Of one connection. */
export interface ConnectionCounts extends RequestCounts {
  /** By NBD_CMD_*, three numbers each: requests, those that failed, and bytes asked for. */
  readonly commands: Float64Array;
}

/** So many of a hundred, or of a thousand, took no longer, in microseconds; up to an eighth too long. */
export interface RequestLatencies {
  readonly p50Us: number;
  readonly p90Us: number;
  readonly p99Us: number;
  readonly p999Us: number;
  /** Exactly. */
  readonly maxUs: number;
}

/**
 * How long requests to the exports of a server took: from their arrival, for a large write that of its payload, until
 * their replies were about to be sent.
 */
export interface NativeLatencies {
  /**
   * Whether requests to the export are counted apart from others': clients choose names, of which only
   * the first hundred are, for all threads that share this.
   */
  areOwn(exportName: string): boolean;
  /** By NBD_CMD_*; undefined: there were none. exportName undefined: of all others. */
  of(exportName: string | undefined, command: number): RequestLatencies | undefined;
}

export interface TransmissionSettings extends ClientLimits {
  /** Data may be received and sent where the disk lies, or be handed on as pages. */
  readonly shortcuts: boolean;
  /** Counted there; undefined: nobody looks at the clock. */
  readonly latencies: NativeLatencies | undefined;
  readonly latenciesOf: string;
}

/** How a client is answered; "extended" is also how it asks. */
export type ReplyStyle = "simple" | "structured" | "extended";

/** What a handshake has negotiated. */
export interface Agreement {
  /** NBD_FLAG_*, as the client was told. */
  readonly flags: number;
  readonly replyStyle: ReplyStyle;
  /** Selected metadata contexts. The number is 0 for base:allocation; else the plugin's, from 1. */
  readonly contexts: readonly { readonly id: number; readonly number: number }[];
  /** The smallest block and the longest payload, in bytes, as the client was told. */
  readonly blockBytes: number;
  readonly maxPayloadBytes: number;
}

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

export type Listening = { fds: number[]; port: number } | { error: string; fds?: undefined };

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
  readyChain(chain: number, threadModel: number, log: NativeLog | undefined): Promise<void>;
  /** Whether one of its filters has asked for the server's end. */
  isShutdownRequested(chain: number): boolean;
  /** By each thread that has made it, after its last client: what filters keep of disks is gone. */
  dropChain(chain: number, log: NativeLog | undefined): Promise<void>;
  /** A number for NativeSession.upgradeTls, on any thread; or what is wrong. */
  loadTls(files: TlsFiles): number | string;
  /** Sessions that have begun keep it. */
  dropTls(tls: number): void;
  NativePlugin: new (path: string) => NativePlugin;
  NativeCFilter: new (path: string) => NativeCFilter;
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

  /** host "": all interfaces. family: 4, 6, or 0 for both. */
  listenTcp(host: string, port: string, family: 0 | 4 | 6): Listening;
  listenVsock(port: number): Listening;
  /** Takes the place of a socket on which nobody listens any more. */
  listenUnix(path: string): Listening & { readonly tookOver?: boolean };
  /** Listening sockets that this process was started with, from descriptor 3 on. */
  adoptListeners(count: number): Listening;
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
  /** Instead of those of the last call: files, and directories that are empty by then. */
  removeAtForcedEnd(files: readonly MadeFile[]): void;
}
