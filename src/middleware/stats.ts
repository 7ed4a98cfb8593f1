// Counts requests, bytes and times.

import { createHistogram, type RecordableHistogram } from "node:perf_hooks";
import type { Middleware } from "../plugins/script/layer.js";
import { REQUEST_NAMES, type RequestName, whenEnded, wrapRequests } from "./requests.js";

/** Of one kind of requests. */
export interface RequestStats {
  readonly requests: number;
  /** Of them. */
  readonly failures: number;
  readonly bytes: number;
  /** From the request's arrival at the middleware to its answer. */
  readonly meanMs: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

class Counter {
  failures = 0;
  bytes = 0;
  readonly #latency: RecordableHistogram = createHistogram();

  record(nanoseconds: bigint): void {
    this.#latency.record(nanoseconds > 0n ? nanoseconds : 1n);
  }

  snapshot(): RequestStats {
    const { count, mean, max } = this.#latency;
    const ms = (nanoseconds: number): number => (count === 0 ? 0 : nanoseconds / 1e6);
    return {
      requests: count,
      failures: this.failures,
      bytes: this.bytes,
      meanMs: ms(mean),
      p50Ms: ms(this.#latency.percentile(50)),
      p99Ms: ms(this.#latency.percentile(99)),
      maxMs: ms(max),
    };
  }
}

/** Middleware that counts; snapshot() tells what, by the names of callbacks. */
export interface Stats extends Middleware {
  snapshot(): Readonly<Partial<Record<RequestName, RequestStats>>>;
}

export function stats(): Stats {
  const counters = new Map<RequestName, Counter>();
  const counterOf = (name: RequestName): Counter => {
    let counter = counters.get(name);
    if (counter === undefined) {
      counter = new Counter();
      counters.set(name, counter);
    }
    return counter;
  };
  const middleware = wrapRequests("stats", (call) => {
    const counter = counterOf(call.name);
    const begun = process.hrtime.bigint();
    counter.bytes += call.count;
    return whenEnded(call, (failed) => {
      if (failed !== undefined) counter.failures++;
      counter.record(process.hrtime.bigint() - begun);
    });
  });
  const snapshot = (): Partial<Record<RequestName, RequestStats>> =>
    Object.fromEntries(
      REQUEST_NAMES.flatMap((name) => {
        const counter = counters.get(name);
        return counter === undefined ? [] : [[name, counter.snapshot()]];
      }),
    );
  return Object.assign(middleware, { snapshot });
}
