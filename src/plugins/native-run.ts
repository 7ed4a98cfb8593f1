// Marks of plugins that native filters stand in front of, by which whoever serves one finds them.

import type { NativeFilter } from "../addon/types.js";
import type { NativeChain } from "./native-chain.js";
import type { Plugin } from "./script/definition.js";

const RUN = Symbol("native filters");
const OWN_FRONT = Symbol("its own front");

/** Filters, and the plugin behind them. */
export interface NativeRun {
  readonly filters: readonly NativeFilter[];
  readonly plugin: Plugin;
}

type MakeFront = (chain: NativeChain) => Plugin;

/** Of a plugin that has its own way to be behind native filters: properties for its definition. */
export const ownFront = (front: MakeFront): object => ({ [OWN_FRONT]: front });

/** The same way; undefined: it has none. */
export const frontOf = (plugin: Plugin, chain: NativeChain): Plugin | undefined =>
  ownProperty<MakeFront>(plugin, OWN_FRONT)?.(chain);

/** Of filters in front of a plugin: properties for the definition. */
export const asRun = (run: NativeRun): object => ({ [RUN]: run });

const ownProperty = <T>(plugin: Plugin, key: symbol): T | undefined =>
  // Not of a plugin that this one is in front of.
  Object.hasOwn(plugin, key) ? ((plugin as unknown as Record<symbol, T>)[key] as T) : undefined;

/** The native filters that clients of the plugin meet first, none perhaps, and what they meet then. */
export function nativeRunOf(plugin: Plugin): NativeRun {
  return ownProperty<NativeRun>(plugin, RUN) ?? { filters: [], plugin };
}
