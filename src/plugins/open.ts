// From a plugin's name on the command line to the plugin: in C or in TypeScript.

import { CPlugin } from "./c-plugin.js";
import { resolvePlugin } from "./resolve.js";
import type { ServedPlugin } from "./served-plugin.js";

/** A C plugin's name, path or short name comes first; nothing of TypeScript is loaded for one. */
export async function openPlugin(name: string): Promise<ServedPlugin> {
  const found = resolvePlugin(name);
  const isShared = "path" in found && /\.so(\.|$)/.test(found.path);
  if (isShared) return CPlugin.open(name);
  const { resolveScript } = await import("./script/load.js");
  const script = resolveScript(name);
  if (script === undefined) return CPlugin.open(name); // which says what is wrong
  const [{ ScriptPlugin }, { loadScript }] = await Promise.all([
    import("./script/plugin.js"),
    import("./script/load.js"),
  ]);
  return new ScriptPlugin(await loadScript(script), script);
}
