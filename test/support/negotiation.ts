// The handshake's state machine, run on bytes from memory.

import type { MetaContextEntry, OpenedExport, WantedFacts } from "../../src/addon/types.js";
import type { Effect, Outcome } from "../../src/handshake/effects.js";
import { type HandshakeSettings, handshake } from "../../src/handshake/machine.js";
import { u32 } from "./bytes.js";

const EXPORT: OpenedExport = {
  name: "canonical",
  sizeBytes: 123456789n,
  canWrite: true,
  canFlush: true,
  isRotational: false,
  canTrim: true,
  canZero: true,
  canFastZero: false,
  canFua: true,
  canMultiConn: true,
  canCache: false,
  canExtents: false,
  description: "",
  blockSizes: [0, 0, 0],
};

export interface World {
  opens?: OpenedExport | null;
  exports?: { name: string; description: string }[] | null;
  description?: string;
  sizes?: readonly [number, number, number] | null;
  contexts?: MetaContextEntry[] | null;
  tlsFails?: boolean;
}

export interface Run {
  readonly outcome: Outcome;
  readonly sent: Buffer;
  readonly effects: readonly Effect[];
  readonly unread: Buffer;
}

/** With what is wanted, and no more. */
function opened({ opens, description, sizes }: World, wanted: WantedFacts): OpenedExport | null {
  if (opens !== undefined) return opens;
  return {
    ...EXPORT,
    ...(wanted.description && description !== undefined && { description }),
    ...(wanted.blockSizes && sizes !== undefined && { blockSizes: sizes }),
  };
}

/** Runs the machine on `input`, after which the client has gone. */
export function negotiate(
  input: Buffer,
  world: World = {},
  settings: Partial<HandshakeSettings> = {},
): Run {
  const machine = handshake({
    handshakeFlagsMask: 0xffff,
    structuredReplies: true,
    extendedHeaders: true,
    tls: "off",
    metaContexts: true,
    oldstyle: false,
    ...settings,
  });
  const effects: Effect[] = [];
  const sent: Uint8Array[] = [];
  let unread = input;
  const take = (bytes: number): Buffer | null => {
    if (unread.length < bytes) return null;
    const taken = unread.subarray(0, bytes);
    unread = unread.subarray(bytes);
    return taken;
  };
  const perform = (effect: Effect): unknown => {
    effects.push(effect);
    switch (effect.kind) {
      case "read":
        return take(effect.bytes);
      case "skip":
        return take(effect.bytes) === null ? null : true;
      case "send":
        sent.push(effect.data);
        return true;
      case "listExports":
        return world.exports === undefined ? [{ name: "", description: "" }] : world.exports;
      case "openExport":
        return opened(world, effect.wanted);
      case "metaContexts":
        return world.contexts === undefined ? [] : world.contexts;
      case "upgradeTls": // what follows counts as decrypted
        return world.tlsFails ? null : true;
      case "closeExport":
        return undefined;
    }
  };
  let step = machine.next();
  while (!step.done) step = machine.next(perform(step.value));
  return { outcome: step.value, sent: Buffer.concat(sent), effects, unread };
}

export const client = (...options: Buffer[]): Buffer => Buffer.concat([u32(3), ...options]);

/** The replies after the greeting, as [option, type, data]. */
export function replies({ sent }: Run): [number, number, Buffer][] {
  const result: [number, number, Buffer][] = [];
  for (let at = 18; at < sent.length; ) {
    const length = sent.readUInt32BE(at + 16);
    const data = sent.subarray(at + 20, at + 20 + length);
    result.push([sent.readUInt32BE(at + 8), sent.readUInt32BE(at + 12), data]);
    at += 20 + length;
  }
  return result;
}

export const types = (run: Run): number[] => replies(run).map(([, type]) => type);
export const kinds = (run: Run): string[] => run.effects.map(({ kind }) => kind);
