// Opens a chain, a plugin with its filters, on this thread or on several.

import { applyFilters, type FilterChoice, refuseLibraries } from "../filters/apply-filters.js";
import { openPlugin } from "../plugins/open-plugin.js";
import type { PluginInstance } from "../plugins/plugin-instance.js";

/** What a user chooses. */
export interface ChainSpec {
  /** A name, a path or a package. */
  readonly plugin: string;
  /** Clients meet the first. */
  readonly filters: readonly FilterChoice[];
  /** Loads a plugin in TypeScript again when its file changes. */
  readonly watch: boolean;
}

/** `workers`: on so many threads; 0: on this one. */
export async function openChain(
  { plugin, filters, watch }: ChainSpec,
  workers: number,
): Promise<PluginInstance> {
  if (workers === 0) return applyFilters(await openPlugin(plugin, { watch }), filters);
  await refuseLibraries(filters);
  const { WorkerPlugin } = await import("./worker-plugin.js"); // only where it is asked for
  return WorkerPlugin.open({ plugin, filters, watch }, workers);
}
