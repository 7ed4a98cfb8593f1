// Faults on demand: middleware that lets requests fail, wait, or happen in part, when a test says so.

import { setTimeout as sleep } from "node:timers/promises";
import { defineMiddleware } from "../middleware/define.js";
import { failure } from "../plugins/script/errno.js";
import type { Middleware, OpenExport } from "../plugins/script/layer.js";

export type FaultyRequest = "read" | "write" | "flush" | "trim" | "zero" | "cache" | "extents";

/** Which requests a fault is for. */
export interface FaultChoice<Name extends FaultyRequest = FaultyRequest> {
  /** One kind, or several. By default all. */
  readonly on?: Name | readonly Name[];
  /** Only those that touch the byte at this offset; no flush does. */
  readonly at?: number;
  /** Of these requests, how many; the rest are as before. By default all, until clear(). */
  readonly times?: number;
}

/** What is done of a request that is torn. */
export interface Tear extends FaultChoice<"write" | "trim" | "zero"> {
  /** How much of its beginning is done; no more than all of it. By default half of it. */
  readonly bytes?: number;
  /** By default "EIO". */
  readonly error?: string;
}

/** Middleware: in `filters` of serve() and mount(), or called with a plugin. */
export interface Faults extends Middleware {
  /** They fail before they reach what is behind, with a code such as "ENOSPC"; by default "EIO". */
  fail(choice?: FaultChoice & { readonly error?: string }): void;
  /** They wait so many milliseconds, or as long as a promise, before they go on. */
  delay(choice: FaultChoice & { readonly until: number | Promise<unknown> }): void;
  /** A part of them is done, and then they fail. */
  tear(choice?: Tear): void;
  /** No more faults. Those that wait go on waiting. */
  clear(): void;
  /** How many requests have met a fault. */
  readonly count: number;
}

/** A request on its way; `part` does the first bytes of it. */
interface Passing {
  readonly name: FaultyRequest;
  readonly offset: number;
  readonly length: number;
  part(bytes: number): unknown;
}

interface Rule {
  /** undefined: any. */
  readonly names: readonly FaultyRequest[] | undefined;
  readonly at: number | undefined;
  left: number;
  /** Before the request goes on; throws if it is not to. */
  readonly meet: (request: Passing) => Promise<void>;
}

class Rules {
  readonly #rules: Rule[] = [];
  count = 0;

  add({ on, at, times = Number.POSITIVE_INFINITY }: FaultChoice, meet: Rule["meet"]): void {
    this.#rules.push({ names: on && [on].flat(), at, left: times, meet });
  }

  clear(): void {
    this.#rules.length = 0;
  }

  /** Without a promise where there is no fault: what is behind may then answer without one, too. */
  pass(request: Passing): unknown {
    const met = this.#rules.filter((rule) => concerns(rule, request));
    if (met.length === 0) return request.part(request.length);
    this.count++;
    for (const rule of met) rule.left--;
    return this.#meet(met, request);
  }

  async #meet(met: readonly Rule[], request: Passing): Promise<unknown> {
    for (const rule of met) await rule.meet(request);
    return request.part(request.length);
  }
}

function concerns({ names, at, left }: Rule, { name, offset, length }: Passing): boolean {
  if (left <= 0 || names?.includes(name) === false) return false;
  return at === undefined || (at >= offset && at < offset + length);
}

function wrapped(behind: OpenExport, rules: Rules): OpenExport {
  const pass = <Result>(
    name: FaultyRequest,
    offset: number,
    length: number,
    part: (bytes: number) => Result,
  ): Result => rules.pass({ name, offset, length, part }) as Result;
  return {
    ...behind,
    read: (buf, offset, request) =>
      pass("read", offset, buf.length, () => behind.read(buf, offset, request)),
    write: (buf, offset, request) =>
      pass("write", offset, buf.length, (n) => behind.write(buf.subarray(0, n), offset, request)),
    flush: (request) => pass("flush", 0, 0, () => behind.flush(request)),
    trim: (count, offset, request) =>
      pass("trim", offset, count, (bytes) => behind.trim(bytes, offset, request)),
    zero: (count, offset, request) =>
      pass("zero", offset, count, (bytes) => behind.zero(bytes, offset, request)),
    cache: (count, offset, request) =>
      pass("cache", offset, count, () => behind.cache(count, offset, request)),
    extents: (count, offset, request) =>
      pass("extents", offset, count, () => behind.extents(count, offset, request)),
  };
}

/**
 * A layer in front of a plugin that is at fault when a test says so, to see what callers do then, or
 * a plugin over another disk.
 *
 * @example
 * const disk = faults();
 * await using mounted = await mount(plugin, { filters: [disk] });
 * disk.fail({ on: "write", error: "ENOSPC", times: 1 });
 * await assert.rejects(mounted.write(0, Buffer.alloc(512)), { code: "ENOSPC" });
 */
export function faults(): Faults {
  const rules = new Rules();
  const layer = defineMiddleware({
    name: "faults",
    open: async (next, info) => wrapped(await next(info), rules),
  });
  const methods = {
    fail: ({ error = "EIO", ...choice }: FaultChoice & { readonly error?: string } = {}): void =>
      rules.add(choice, async () => {
        throw failure(error, "a test makes this request fail");
      }),
    delay: ({ until, ...choice }: FaultChoice & { readonly until: number | Promise<unknown> }) =>
      rules.add(choice, async () => {
        await (typeof until === "number" ? sleep(until) : until);
      }),
    tear: ({ bytes, error = "EIO", on = ["write", "trim", "zero"], ...choice }: Tear = {}): void =>
      rules.add({ ...choice, on }, async ({ length, part }) => {
        const done = Math.min(bytes ?? Math.floor(length / 2), length);
        if (done > 0) await part(done);
        throw failure(error, `a test lets only ${done} bytes of this request succeed`);
      }),
    clear: (): void => rules.clear(),
  };
  const count = { get: () => rules.count, enumerable: true };
  return Object.defineProperty(Object.assign(layer, methods), "count", count) as Faults;
}
