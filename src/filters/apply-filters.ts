// Puts filters in front of a plugin.

import type { PluginInstance } from "../plugins/plugin-instance.js";
import type { Middleware } from "../plugins/script/layer.js";
import type { Filter } from "./filter.js";

/** By its name, a module's path or package; or itself. */
export type FilterChoice = string | Filter | Middleware;

/** The plugin behind the filters, of which clients meet the first. */
export async function applyFilters(
  plugin: PluginInstance,
  filters: readonly FilterChoice[],
): Promise<PluginInstance> {
  if (filters.length === 0) return plugin;
  const { FilteredPlugin, openFilter } = await import("./open-filter.js"); // only when there are some
  return new FilteredPlugin(plugin, await Promise.all(filters.map(openFilter)));
}
