// The start of a plugin, up to open sockets, the same for the command and for programs.

import { addon } from "../addon/addon.js";
import { type PluginInstance, partsOf } from "./plugin-instance.js";

export type Parameter = readonly [key: string, value: string | number | boolean];

/** From a plugin that is loaded to one that is ready. */
export async function readyPlugin(
  plugin: PluginInstance,
  parameters: readonly Parameter[],
): Promise<void> {
  for (const [key, value] of parameters) plugin.config(key, value);
  await plugin.configComplete();
  plugin.settleThreadModel();
  await plugin.getReady();
  addon().logDebug(`chain: ${partsOf(plugin).join(" > ")}`);
}
