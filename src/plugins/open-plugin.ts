// From a plugin's name on the command line to the plugin: in C or in TypeScript.

import { type Log, processLog } from "../addon/log.js";
import { AsyncnbdError } from "../errors.js";
import { CPlugin } from "./c-plugin.js";
import type { PluginInstance } from "./plugin-instance.js";
import type { Reload } from "./reload.js";
import { isSharedObject, resolvePlugin } from "./resolve.js";
import { unknownPlugin } from "./unknown-plugin.js";

interface OpenOptions {
  readonly watch: boolean;
  readonly log: Log;
  /** What becomes of new versions, if it is watched. */
  readonly onReload?: (reload: Reload) => void;
}

async function openC(name: string, path: string, { watch, log }: OpenOptions): Promise<CPlugin> {
  const plugin = CPlugin.open(name, path, log);
  if (!watch) return plugin;
  await plugin.unload();
  throw new AsyncnbdError(
    "WATCH_IMPOSSIBLE",
    `--watch: ${name} is a C plugin, which cannot be reloaded`,
  );
}

/** A C plugin's name, path or short name comes first; nothing of TypeScript is loaded for one. */
export async function openPlugin(
  name: string,
  options: OpenOptions = { watch: false, log: processLog },
): Promise<PluginInstance> {
  const { watch, log } = options;
  const found = resolvePlugin(name);
  if ("path" in found && isSharedObject(found.path)) return openC(name, found.path, options);
  const { resolveScript } = await import("./script/load-script.js");
  const script = resolveScript(name);
  if (script === undefined) {
    if ("path" in found) return openC(name, found.path, options); // which says what is wrong
    const { FILTERS } = await import("../filters/built-in.js");
    const filters = FILTERS.map((filter) => filter.name);
    const { PLUGIN_PREFIX, packageNames } = await import("./packages.js");
    throw unknownPlugin(name, found.searched, packageNames(PLUGIN_PREFIX), filters);
  }
  if (watch)
    return (await import("./script/watched-plugin.js")).WatchedPlugin.open(
      script,
      log,
      options.onReload,
    );
  const [{ ScriptPlugin }, { loadScript }] = await Promise.all([
    import("./script/script-plugin.js"),
    import("./script/load-script.js"),
  ]);
  return new ScriptPlugin(await loadScript(script), script, log);
}
