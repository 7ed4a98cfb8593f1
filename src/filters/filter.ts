// What --filter names: middleware with parameters.

import type { ConfigOf, NamedParameters } from "../plugins/script/config-spec.js";
import type { Middleware } from "../plugins/script/layer.js";
import type { ParameterSet } from "../plugins/script/parameters.js";
import type { CFilter } from "./c-filter.js";

export interface FilterDefinition<Spec extends NamedParameters> {
  readonly name: string;
  /** Its parameters on the command line, beside the plugin's. */
  readonly config?: Spec;
  /** NBDKIT_THREAD_MODEL_*, the most that it stands of all in the chain; by default any. */
  readonly threadModel?: (config: ConfigOf<Spec>) => number;
  /** Makes the middleware of checked parameters. */
  readonly create: (config: ConfigOf<Spec>) => Middleware;
}

// biome-ignore lint/suspicious/noExplicitAny: filters of any parameters
export type Filter = FilterDefinition<any>;

/** Does nothing but type its argument: a filter for the command line, as a module's export. */
export function defineFilter<const Spec extends NamedParameters = Record<never, never>>(
  filter: FilterDefinition<Spec>,
): FilterDefinition<Spec> {
  return filter;
}

/** The origin of those that come with the server. */
export const BUILT_IN = "built in";

/** A filter that was found for a user's choice. */
export interface OpenedFilter {
  readonly filter: Filter;
  /** Where it comes from, for people. */
  readonly origin: string;
  /** Of one that stands for nbdkit's of that name: programs look for a version of nbdkit. */
  readonly version: string | undefined;
  /** What this one is given, at its place in the chain. */
  readonly parameters: ParameterSet;
  readonly help: string | undefined;
  /** One of nbdkit's, which looks at parameters itself. */
  readonly library: CFilter | undefined;
}

/** Whether it comes with the server, and stands for nbdkit's. */
export const isBuiltIn = ({ origin }: Pick<OpenedFilter, "origin">): boolean => origin === BUILT_IN;

export function isFilter(value: unknown): value is Filter {
  const { name, create } = Object(value) as Record<string, unknown>;
  return typeof name === "string" && typeof create === "function";
}
