// Clients: those of sockets, those whose requests come from JavaScript, and what is counted of them.

import type { ClientLimits } from "../client-limits.js";
import type {
  AdoptedExport,
  Answer,
  ExportEntry,
  FailedRequest,
  MetaContextEntry,
  OpenedExport,
  WantedFacts,
} from "./export-types.js";
import type { NativePlugin } from "./plugin-types.js";
import type { NativeScriptBridge } from "./script-types.js";

/** Whether the event loop stays alive for it, as it does at first. */
export interface Refable {
  setRef(isRef: boolean): void;
}

type Asked = [] | [bridge: NativeScriptBridge, answer: Answer];

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
