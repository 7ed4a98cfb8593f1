// Counts requests, bytes and times.

import { RequestCounters, type RequestStats } from "../plugins/request-counters.js";
import type { Middleware } from "../plugins/script/layer.js";
import { nativeMiddleware } from "./define.js";
import type { RequestName } from "./requests.js";

/** Middleware that counts; snapshot() tells what, by the names of callbacks. */
export interface Stats extends Middleware {
  snapshot(): Readonly<Partial<Record<RequestName, RequestStats>>>;
}

/** Counts requests of all clients, wherever it stands. */
export function stats(): Stats {
  const counters = new RequestCounters();
  const middleware = nativeMiddleware({ name: "stats", options: { counters: counters.native } });
  return Object.assign(middleware, { snapshot: () => counters.snapshot() });
}
