// The effects that the state machine asks for, one at a time, and typed functions to do so.

import type {
  Agreement,
  ExportEntry,
  MetaContextEntry,
  OpenedExport,
  WantedFacts,
} from "../addon/types.js";

/** Performed by whoever runs the machine, which gets the result back as the type after =>. */
export type Effect =
  | { readonly kind: "read"; readonly bytes: number } // => Uint8Array, or null: client gone
  | { readonly kind: "skip"; readonly bytes: number } // => true, or null: client gone
  | { readonly kind: "send"; readonly data: Uint8Array } // => true, or null: client gone
  | { readonly kind: "upgradeTls" } // => true, or why it failed; null: client gone
  | { readonly kind: "listExports" } // => ExportEntry[], or null: failed
  // => OpenedExport, or null: failed; undefined: the client has gone while it waited for its turn
  | { readonly kind: "openExport"; readonly name: string; readonly wanted: WantedFacts }
  // => MetaContextEntry[], or null: failed
  | { readonly kind: "metaContexts"; readonly exportName: string }
  | { readonly kind: "closeExport" }; // => undefined

/** How a handshake ends. */
export type Outcome =
  | ({ readonly kind: "transmit" } & Agreement)
  /** Refused: the client has not got what it wanted, or has done something wrong. */
  | { readonly kind: "close"; readonly reason: string; readonly isRefused: boolean };

/** A part of the machine: asks for effects, returns T. */
export type Step<T> = Generator<Effect, T, unknown>;

/** Thrown inside the machine to end it from any depth; never leaves it. */
export class HandshakeEnd {
  readonly reason: string;
  readonly isRefused: boolean;
  constructor(reason: string, isRefused = true) {
    this.reason = reason;
    this.isRefused = isRefused;
  }
}

function* ask<T>(effect: Effect): Step<T> {
  return (yield effect) as T;
}

function* askClient<T>(effect: Effect): Step<T> {
  const result = yield* ask<T | null>(effect);
  if (result === null) throw new HandshakeEnd("during the handshake", false);
  return result;
}

export const read = (bytes: number): Step<Uint8Array> => askClient({ kind: "read", bytes });
export const send = (data: Uint8Array): Step<true> => askClient({ kind: "send", data });
export const upgradeTls = (): Step<true | string> => askClient({ kind: "upgradeTls" });
export const listExports = (): Step<ExportEntry[] | null> => ask({ kind: "listExports" });
export const metaContexts = (exportName: string): Step<MetaContextEntry[] | null> =>
  ask({ kind: "metaContexts", exportName });
export const closeExport = (): Step<undefined> => ask({ kind: "closeExport" });

const NOTHING_WANTED: WantedFacts = { description: false, blockSizes: false };

/** `wanted`: what the client has asked for. */
export function* openExport(name: string, wanted = NOTHING_WANTED): Step<OpenedExport | null> {
  const opened = yield* ask<OpenedExport | null | undefined>({ kind: "openExport", name, wanted });
  if (opened === undefined)
    throw new HandshakeEnd(
      "while it waited for other clients of a plugin that serves one at a time",
      false,
    );
  return opened;
}

/** Reads and drops bytes from the client. */
export function* skip(bytes: number): Step<void> {
  if (bytes > 0) yield* askClient({ kind: "skip", bytes });
}
