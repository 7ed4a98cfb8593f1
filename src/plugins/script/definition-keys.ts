// The properties that a plugin's definition may have, to find misspelt ones.

import { didYouMean, editDistance, nearestName } from "../../config/nearest.js";
import type { MetaContext, Plugin } from "./definition.js";
import { faultsOf } from "./parameters.js";

const KEYS: readonly string[] = [
  "name",
  "longname",
  "version",
  "description",
  "config",
  "threadModel",
  "requestTimeoutMs",
  "load",
  "configComplete",
  "dumpPlugin",
  "getReady",
  "afterFork",
  "cleanup",
  "unload",
  "metaContexts",
  "preconnect",
  "listExports",
  "defaultExport",
  "open",
  "close",
  "exportDescription",
  "getSize",
  "blockSize",
  "canWrite",
  "canFlush",
  "canTrim",
  "canZero",
  "canFastZero",
  "canFua",
  "canCache",
  "canExtents",
  "canMultiConn",
  "isRotational",
  "memory",
  "pread",
  "pwrite",
  "flush",
  "trim",
  "zero",
  "cache",
  "extents",
  "middleware",
] satisfies readonly (keyof Plugin)[];

const CONTEXT_KEYS = [
  "bits",
  "isOffered",
  "status",
] satisfies readonly (keyof MetaContext<never>)[];

/** What is probably a mistake in a definition, in words. */
export function definitionFaults(definition: Plugin): string[] {
  const contexts = Object.entries(definition.metaContexts ?? {}).flatMap(([name, context]) =>
    unknownKeys(`the context ${name}`, Object.keys(context), CONTEXT_KEYS),
  );
  // Objects of a class have more than what is ours, and so have modules.
  const odd = isPlain(definition) ? Object.keys(definition) : slipsIn(definition);
  return [...unknownKeys("a plugin", odd, KEYS), ...contexts, ...faultsOf(definition.config)];
}

/** As messages. Properties that begin with "_" are the author's own. */
export const unknownKeys = (
  what: string,
  keys: readonly string[],
  known: readonly string[],
): string[] =>
  keys
    .filter((key) => !known.includes(key) && !key.startsWith("_"))
    .map((key) => `${what} has no property "${key}"${didYouMean(key, known)}`);

const isPlain = (definition: object): boolean =>
  Object.getPrototypeOf(definition) === Object.prototype && !("__esModule" in definition);

/** Functions, of its own or its class, whose names are callbacks' but for a slip or two. */
function slipsIn(definition: object): string[] {
  const slips: string[] = [];
  for (
    let object = definition;
    object !== null && object !== Object.prototype;
    object = Object.getPrototypeOf(object) as object
  )
    for (const [key, { value }] of Object.entries(Object.getOwnPropertyDescriptors(object)))
      if (typeof value === "function" && key !== "constructor" && isSlip(key)) slips.push(key);
  return slips;
}

function isSlip(key: string): boolean {
  const near = nearestName(key, KEYS);
  return near !== undefined && editDistance(key.toLowerCase(), near.toLowerCase()) <= 2;
}
