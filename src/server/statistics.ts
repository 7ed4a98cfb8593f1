// What the clients of a server have asked for so far, by export and kind of request.

import { addon } from "../addon/addon.js";
import type {
  ConnectionCounts,
  NativeLatencies,
  RequestCounts,
  RequestLatencies,
} from "../addon/types.js";
import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_CACHE,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
} from "../protocol.js";

export type OperationName = "read" | "write" | "flush" | "trim" | "zero" | "cache" | "blockStatus";

const COMMANDS: Readonly<Record<OperationName, number>> = {
  read: NBD_CMD_READ,
  write: NBD_CMD_WRITE,
  flush: NBD_CMD_FLUSH,
  trim: NBD_CMD_TRIM,
  zero: NBD_CMD_WRITE_ZEROES,
  cache: NBD_CMD_CACHE,
  blockStatus: NBD_CMD_BLOCK_STATUS,
};

/** Of one kind of requests to one export. */
export interface OperationStats {
  readonly requests: number;
  /** Of them, those answered with an error. */
  readonly failedRequests: number;
  /** That clients have asked for, failed requests included. */
  readonly bytes: number;
  /** With `stats: "latency"`, if there were any. */
  readonly latency: RequestLatencies | undefined;
}

export interface ExportStats {
  /** undefined: all whose names came after the first hundred. */
  readonly exportName: string | undefined;
  readonly operations: Readonly<Record<OperationName, OperationStats>>;
}

/** Since the start. Clients on `workers` are counted when they disconnect. */
export interface ServerStats extends RequestCounts {
  readonly connections: number;
  readonly totalConnections: number;
  /** In the order in which they were first opened. */
  readonly exports: readonly ExportStats[];
}

/** Clients choose names; further ones are counted together. */
const MAX_EXPORTS = 100;
const FIGURES = 3; // requests, failed ones, bytes

export const NO_REQUESTS: ConnectionCounts = {
  requests: 0,
  failedRequests: 0,
  readBytes: 0,
  writtenBytes: 0,
  inFlight: 0,
  commands: new Float64Array(FIGURES * (NBD_CMD_BLOCK_STATUS + 1)),
};

export const sumOf = (a: ConnectionCounts, b: ConnectionCounts): ConnectionCounts => ({
  requests: a.requests + b.requests,
  failedRequests: a.failedRequests + b.failedRequests,
  readBytes: a.readBytes + b.readBytes,
  writtenBytes: a.writtenBytes + b.writtenBytes,
  inFlight: a.inFlight + b.inFlight,
  commands: a.commands.map((number, i) => number + (b.commands[i] as number)),
});

/** By name, of which there are no more than a bound. */
class ByExport<Value> {
  readonly #all = new Map<string | undefined, Value>();
  readonly #make: (exportName: string | undefined) => Value;

  constructor(make: (exportName: string | undefined) => Value) {
    this.#make = make;
  }

  of(exportName: string): Value {
    const isKnown = this.#all.has(exportName) || this.#all.size < MAX_EXPORTS;
    const key = isKnown ? exportName : undefined;
    const found = this.#all.get(key) ?? this.#make(key);
    this.#all.set(key, found);
    return found;
  }

  known(exportName: string | undefined): Value | undefined {
    return this.#all.get(exportName);
  }

  entries(): IterableIterator<[string | undefined, Value]> {
    return this.#all.entries();
  }
}

/** How long requests took: of one server, with those of other threads that have the same name. */
export class ExportLatencies {
  readonly #byExport: ByExport<NativeLatencies>;

  constructor(sharedAs: string) {
    this.#byExport = new ByExport(
      (name) => new (addon().NativeLatencies)(`${sharedAs} ${name === undefined ? 0 : `=${name}`}`),
    );
  }

  of(exportName: string): NativeLatencies {
    return this.#byExport.of(exportName);
  }

  /** As they were told of: undefined: those of further names. */
  known(exportName: string | undefined): NativeLatencies | undefined {
    return this.#byExport.known(exportName);
  }
}

interface OfExport {
  counts: ConnectionCounts; // of clients that have gone
}

export class Statistics {
  readonly #byExport = new ByExport<OfExport>(() => ({ counts: NO_REQUESTS }));
  readonly #latencies: ExportLatencies | undefined;

  constructor(latencies: ExportLatencies | undefined) {
    this.#latencies = latencies;
  }

  /** A client has opened it. */
  begin(exportName: string): void {
    this.#byExport.of(exportName);
    this.#latencies?.of(exportName); // so that they stay when those who count them have gone
  }

  /** Such a client has gone. */
  end(exportName: string, counts: ConnectionCounts): void {
    const one = this.#byExport.of(exportName);
    one.counts = sumOf(one.counts, counts);
  }

  /** `live`: clients that are here. */
  exports(live: Iterable<readonly [exportName: string, counts: ConnectionCounts]>): ExportStats[] {
    const sums = new Map([...this.#byExport.entries()].map(([, one]) => [one, one.counts]));
    for (const [exportName, counts] of live) {
      const one = this.#byExport.of(exportName);
      sums.set(one, sumOf(sums.get(one) ?? NO_REQUESTS, counts));
    }
    return [...this.#byExport.entries()].map(([exportName, one]) => ({
      exportName,
      operations: operationsOf(sums.get(one) ?? NO_REQUESTS, this.#latencies?.known(exportName)),
    }));
  }
}

function operationsOf(
  { commands }: ConnectionCounts,
  latencies: NativeLatencies | undefined,
): ExportStats["operations"] {
  const figure = (command: number, at: number): number => commands[command * FIGURES + at] ?? 0;
  const all = Object.entries(COMMANDS).map(([name, command]) => [
    name,
    {
      requests: figure(command, 0),
      failedRequests: figure(command, 1),
      bytes: figure(command, 2),
      latency: latencies?.of(command),
    },
  ]);
  return Object.fromEntries(all) as ExportStats["operations"];
}
