// What the state machine asks of the world, one effect at a time, and the typed way to ask.

import type {
  Agreement,
  BlockSizes,
  ExportEntry,
  MetaContextEntry,
  OpenedExport,
} from "../addon/types.js";

/** Performed by whoever runs the machine, which gets the result back as the type after =>. */
export type Effect =
  | { readonly kind: "read"; readonly bytes: number } // => Uint8Array, or null: client gone
  | { readonly kind: "skip"; readonly bytes: number } // => true, or null: client gone
  | { readonly kind: "send"; readonly data: Uint8Array } // => true, or null: client gone
  | { readonly kind: "upgradeTls" } // => true, or null: it failed
  | { readonly kind: "listExports" } // => ExportEntry[], or null: failed
  | { readonly kind: "openExport"; readonly name: string } // => OpenedExport, or null: failed
  // => MetaContextEntry[], or null: failed
  | { readonly kind: "metaContexts"; readonly exportName: string }
  | { readonly kind: "exportDescription" } // => string
  | { readonly kind: "blockSizes" } // => BlockSizes, or null: failed
  | { readonly kind: "closeExport" }; // => undefined

/** How a handshake ends. */
export type Outcome =
  | ({ readonly kind: "transmit" } & Agreement)
  | { readonly kind: "close"; readonly reason: string };

/** A part of the machine: asks for effects, returns T. */
export type Step<T> = Generator<Effect, T, unknown>;

/** Thrown inside the machine to end it from any depth; never leaves it. */
export class HandshakeEnd {
  readonly reason: string;
  constructor(reason: string) {
    this.reason = reason;
  }
}

function* ask<T>(effect: Effect): Step<T> {
  return (yield effect) as T;
}

function* askClient<T>(effect: Effect): Step<T> {
  const result = yield* ask<T | null>(effect);
  if (result === null) throw new HandshakeEnd("the client has gone");
  return result;
}

export const read = (bytes: number): Step<Uint8Array> => askClient({ kind: "read", bytes });
export const send = (data: Uint8Array): Step<true> => askClient({ kind: "send", data });
export const upgradeTls = (): Step<true | null> => ask({ kind: "upgradeTls" });
export const listExports = (): Step<ExportEntry[] | null> => ask({ kind: "listExports" });
export const openExport = (name: string): Step<OpenedExport | null> =>
  ask({ kind: "openExport", name });
export const metaContexts = (exportName: string): Step<MetaContextEntry[] | null> =>
  ask({ kind: "metaContexts", exportName });
export const exportDescription = (): Step<string> => ask({ kind: "exportDescription" });
export const blockSizes = (): Step<BlockSizes | null> => ask({ kind: "blockSizes" });
export const closeExport = (): Step<undefined> => ask({ kind: "closeExport" });

/** Drops what the client sent and nobody wants. */
export function* skip(bytes: number): Step<void> {
  if (bytes > 0) yield* askClient({ kind: "skip", bytes });
}
