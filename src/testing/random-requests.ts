// Random requests, as arbitraries of fast-check: which kinds an export has, near the edges of blocks.

import type { Arbitrary } from "fast-check";
import type { Client } from "../client/client.js";
import type { Window } from "./model.js";
import type { ModelRequest } from "./requests.js";

export type FastCheck = typeof import("fast-check");

/** Facts of the export that decide which requests there are. */
export type Abilities = Pick<
  Client,
  | "canWrite"
  | "canFlush"
  | "canFua"
  | "canTrim"
  | "canZero"
  | "canCache"
  | "blockSizes"
  | "contexts"
> & { readonly canRestart: boolean; readonly connections: number };

/** How large parts of a disk are that is not tested as a whole. */
const WINDOW_BYTES = 256 * 1024;
const BORDER_OF_32_BITS = 2 ** 32;

/** All of a small disk; of a large one its beginning, its end, and what is about 4 GiB. */
export function windowsOf(sizeBytes: number, { minimum }: { readonly minimum: number }): Window[] {
  const size = sizeBytes - (sizeBytes % minimum);
  if (size <= 2 * WINDOW_BYTES) return [{ start: 0, length: size }];
  const starts = [0, size - WINDOW_BYTES - ((size - WINDOW_BYTES) % minimum)];
  const border = BORDER_OF_32_BITS - WINDOW_BYTES / 2;
  if (size > border + 2 * WINDOW_BYTES) starts.splice(1, 0, border);
  return starts.map((start, i) => {
    const isLast = i === starts.length - 1;
    return { start, length: isLast ? size - start : WINDOW_BYTES };
  });
}

/** Edges of blocks, in bytes, that plugins are likely to have. */
const USUAL_BLOCKS: readonly number[] = [512, 4096, 32768, 65536];
const MAX_FROM_EDGE = 17;

interface Range {
  readonly offset: number;
  readonly length: number;
}

/** In a window, of whole blocks of the smallest size: near the edges of larger ones, or anywhere. */
function rangeIn(
  fc: FastCheck,
  window: Window,
  smallest: number,
  blocks: readonly number[],
  mostBytes: number,
): Arbitrary<Range> {
  const units = Math.floor(window.length / smallest);
  const most = Math.max(1, Math.min(units, Math.floor(mostBytes / smallest)));
  const nearEdge = (last: number) =>
    fc
      .tuple(
        fc.constantFrom(...blocks),
        fc.nat({ max: 16 }),
        fc.integer({ min: -MAX_FROM_EDGE, max: MAX_FROM_EDGE }),
      )
      .map(([block, count, from]) =>
        Math.min(last, Math.max(0, Math.floor((block * count) / smallest) + from)),
      );
  const anywhere = (last: number) => fc.nat({ max: last });
  const place = fc.oneof(
    { weight: 3, arbitrary: nearEdge(units - 1) },
    { weight: 1, arbitrary: anywhere(units - 1) },
  );
  const extent = fc.oneof(
    { weight: 2, arbitrary: nearEdge(most) },
    { weight: 1, arbitrary: anywhere(Math.min(most, 64)) },
  );
  // Of a place, any will do: what matters is how few requests there are, and how short.
  return fc.tuple(fc.noShrink(place), extent).map(([begin, wanted]) => {
    const length = Math.min(Math.max(1, wanted), units - begin);
    return { offset: window.start + begin * smallest, length: length * smallest };
  });
}

/** Kinds with a range, and how often they are. */
function kindsOf(can: Abilities) {
  const reads = [
    { kind: "read", weight: 6, is: true },
    { kind: "status", weight: 1, is: can.contexts.includes("base:allocation") },
    { kind: "cache", weight: 1, is: can.canCache },
  ] as const;
  const writes = [
    { kind: "write", weight: 8, is: can.canWrite },
    { kind: "zero", weight: 2, is: can.canZero },
    { kind: "trim", weight: 1, is: can.canTrim },
  ] as const;
  const others = [
    { kind: "flush", weight: 2, is: can.canFlush },
    { kind: "reconnect", weight: 1, is: true },
    { kind: "restart", weight: 2, is: can.canRestart },
  ] as const;
  return { reads, writes, others };
}

export function requestsOf(
  fc: FastCheck,
  can: Abilities,
  windows: readonly Window[],
  options: {
    readonly requests: number;
    readonly maxRequestBytes: number;
    readonly blockBytes: readonly number[];
  },
): Arbitrary<ModelRequest[]> {
  const { minimum, preferred } = can.blockSizes;
  const blocks = [...new Set([...options.blockBytes, preferred, ...USUAL_BLOCKS])];
  const range = fc.oneof(
    ...windows.map((window) => rangeIn(fc, window, minimum, blocks, options.maxRequestBytes)),
  );
  const how = fc.record({
    connection: fc.noShrink(fc.nat({ max: can.connections - 1 })),
    isTogether: fc.boolean(),
  });
  const fua = can.canFua ? fc.boolean() : fc.constant(false);
  const { reads, writes, others } = kindsOf(can);
  const ranged = (kind: "read" | "status" | "cache"): Arbitrary<ModelRequest> =>
    fc.tuple(range, how).map(([where, rest]) => ({ kind, ...where, ...rest }));
  const changing = (kind: "write" | "zero" | "trim"): Arbitrary<ModelRequest> =>
    fc
      .tuple(range, fua, how)
      .map(([where, isFua, rest]) => ({ kind, fua: isFua, ...where, ...rest }));
  const other = (kind: "flush" | "reconnect" | "restart"): Arbitrary<ModelRequest> =>
    how.map((rest) => ({ kind, ...rest }));
  const offered = [
    ...reads.filter(({ is }) => is).map((one) => ({ ...one, arbitrary: ranged(one.kind) })),
    ...writes.filter(({ is }) => is).map((one) => ({ ...one, arbitrary: changing(one.kind) })),
    ...others.filter(({ is }) => is).map((one) => ({ ...one, arbitrary: other(one.kind) })),
  ];
  const one = fc.oneof(...offered.map(({ weight, arbitrary }) => ({ weight, arbitrary })));
  // Shrinking an array never removes its last element: here that is one which is not sent.
  return fc
    .array(one, { maxLength: options.requests + 1, size: "max" })
    .map((list) => list.slice(0, -1));
}
