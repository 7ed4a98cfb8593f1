// Exports: what a plugin says of them, what clients ask for, and what they are told.

import type { NativeTurns } from "./script-types.js";

/** Minimum, preferred and maximum in bytes; all 0 if the plugin has nothing to say. */
export type BlockSizes = readonly [number, number, number];

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

/** An export as a plugin in JavaScript has described it. */
export interface DescribedExport {
  readonly capabilities: ScriptCapabilities;
  /** For what is in front of it. */
  readonly description: string;
  readonly blockSizes: BlockSizes;
  /** Where its requests wait for each other; undefined: they do not. */
  readonly turns: NativeTurns | undefined;
  /** undefined: it does not lie in memory. */
  readonly place: DiskPlace | undefined;
}

/** Memory that a plugin serves as a disk. */
export interface NativeDiskMemory {
  /** All of it, which it keeps. To be asked for once. */
  buffer(): ArrayBuffer;
}

/** Where an export begins in it. */
export interface DiskPlace {
  readonly memory: NativeDiskMemory;
  readonly begin: number;
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

/** A request's failure, which has been logged, with words for the client and where it happened. */
export interface FailedRequest {
  readonly errno: number;
  readonly text?: string;
  readonly offset?: number;
}
