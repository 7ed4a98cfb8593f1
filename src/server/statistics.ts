// What the clients of a server have asked for so far, by export and kind of request.

import type {
  ConnectionCounts,
  NativeLatencies,
  RequestCounts,
  RequestLatencies,
} from "../addon/types.js";
import { COMMAND_NUMBERS, OPERATIONS, type OperationName } from "../protocol.js";

export type { OperationName };

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

/** Clients choose names; further ones are counted together. As of native latencies. */
export const MAX_EXPORTS = 100;
/** Of a command: requests, failed ones, bytes. */
export const FIGURES = 3;

export const NO_REQUESTS: ConnectionCounts = {
  requests: 0,
  failedRequests: 0,
  readBytes: 0,
  writtenBytes: 0,
  inFlight: 0,
  commands: new Float64Array(FIGURES * COMMAND_NUMBERS),
};

export const sumOf = (a: ConnectionCounts, b: ConnectionCounts): ConnectionCounts => ({
  requests: a.requests + b.requests,
  failedRequests: a.failedRequests + b.failedRequests,
  readBytes: a.readBytes + b.readBytes,
  writtenBytes: a.writtenBytes + b.writtenBytes,
  inFlight: a.inFlight + b.inFlight,
  commands: a.commands.map((number, i) => number + (b.commands[i] as number)),
});

interface OfExport {
  counts: ConnectionCounts; // of clients that have gone
}

export class Statistics {
  readonly #byExport = new Map<string | undefined, OfExport>();
  readonly #latencies: NativeLatencies | undefined;

  /** `latencies`: whose names are the ones that are known here, too. */
  constructor(latencies: NativeLatencies | undefined) {
    this.#latencies = latencies;
  }

  /** A client has opened it. */
  begin(exportName: string): void {
    this.#of(exportName);
  }

  /** Such a client has gone. */
  end(exportName: string, counts: ConnectionCounts): void {
    const one = this.#of(exportName);
    one.counts = sumOf(one.counts, counts);
  }

  #of(exportName: string): OfExport {
    const known = this.#byExport.get(exportName);
    if (known !== undefined) return known;
    const isOwn = this.#latencies?.areOwn(exportName) ?? this.#byExport.size < MAX_EXPORTS;
    const key = isOwn ? exportName : undefined;
    const found = this.#byExport.get(key) ?? { counts: NO_REQUESTS };
    this.#byExport.set(key, found);
    return found;
  }

  /** `live`: clients that are here. */
  exports(live: Iterable<readonly [exportName: string, counts: ConnectionCounts]>): ExportStats[] {
    const sums = new Map([...this.#byExport.entries()].map(([, one]) => [one, one.counts]));
    for (const [exportName, counts] of live) {
      const one = this.#of(exportName);
      sums.set(one, sumOf(sums.get(one) ?? NO_REQUESTS, counts));
    }
    return [...this.#byExport.entries()].map(([exportName, one]) => ({
      exportName,
      operations: operationsOf(sums.get(one) ?? NO_REQUESTS, exportName, this.#latencies),
    }));
  }
}

function operationsOf(
  { commands }: ConnectionCounts,
  exportName: string | undefined,
  latencies: NativeLatencies | undefined,
): ExportStats["operations"] {
  const figure = (command: number, at: number): number => commands[command * FIGURES + at] ?? 0;
  const all = Object.entries(OPERATIONS).map(([name, command]) => [
    name,
    {
      requests: figure(command, 0),
      failedRequests: figure(command, 1),
      bytes: figure(command, 2),
      latency: latencies?.of(exportName, command),
    },
  ]);
  return Object.fromEntries(all) as ExportStats["operations"];
}
