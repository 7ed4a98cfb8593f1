// Puts filters in front of a plugin.

import { AsyncnbdError } from "../errors.js";
import type { PluginInstance } from "../plugins/plugin-instance.js";
import type { Middleware } from "../plugins/script/layer.js";
import type { Filter } from "./filter.js";

/** By its name, a module's path or package; or itself. */
export type FilterChoice = string | Filter | Middleware;

/** Throws where threads that each have the filters cannot share one of them. */
export async function refuseLibraries(filters: readonly FilterChoice[]): Promise<void> {
  if (filters.length === 0) return;
  const { isLibrary } = await import("./open-filter.js");
  const found = filters.find(isLibrary);
  if (found !== undefined)
    throw new AsyncnbdError("CONFIG", `--filter=${found}: nbdkit's filters cannot be on workers`);
}

/** The plugin behind the filters, of which clients meet the first. */
export async function applyFilters(
  plugin: PluginInstance,
  filters: readonly FilterChoice[],
): Promise<PluginInstance> {
  if (filters.length === 0) return plugin;
  const { FilteredPlugin, openFilters } = await import("./open-filter.js"); // only when there are some
  return new FilteredPlugin(plugin, await openFilters(filters));
}
