// Native filters in front of a plugin, as a plugin: who serves it takes them off and has native code
// run them, middleware calls them as if they were its callbacks.

import { addon } from "../../addon/addon.js";
import type { NativeFilter, OpenedExport } from "../../addon/types.js";
import { answered, type NativeHandle, nativeCallbacks } from "../native-callbacks.js";
import { NativeChain } from "../native-chain.js";
import { asRun, frontOf, nativeRunOf } from "../native-run.js";
import { ScriptBridge } from "./bridge.js";
import { sessionOf } from "./client.js";
import { mapStatus } from "./contexts.js";
import type { MetaContext, Plugin } from "./definition.js";
import { openScriptExport } from "./open-export.js";
import type { OpenInfo } from "./requests.js";

/** Requests that a front has in progress at once on a connection. */
const THREADS = 16;

/** Some of whose properties may be read-only, or setters. */
const inFrontOf = (plugin: Plugin, callbacks: object): Plugin =>
  Object.create(plugin, Object.getOwnPropertyDescriptors(callbacks)) as Plugin;

/** The filter in front of the plugin. */
export function withNativeFilter(behind: Plugin, filter: NativeFilter): Plugin {
  const { filters, plugin } = nativeRunOf(behind);
  const run = { filters: [filter, ...filters], plugin };
  const chain = new NativeChain(run.filters);
  const front = frontOf(plugin, chain) ?? overBridge(plugin, chain);
  return inFrontOf(front, {
    ...asRun(run),
    async getReady(this: Plugin) {
      chain.make();
      await plugin.getReady?.call(this);
    },
    async unload(this: Plugin) {
      await plugin.unload?.call(this);
      chain.drop();
    },
  });
}

interface Handle extends NativeHandle {
  readonly inner: unknown;
}

/** The plugin as those see it that have their own `this`: with their config and log. */
function seenBy(self: Plugin, plugin: Plugin): Plugin {
  const { config, log } = self as unknown as { config: unknown; log: unknown };
  return Object.create(plugin, { config: { value: config }, log: { value: log } }) as Plugin;
}

function overBridge(plugin: Plugin, chain: NativeChain): Plugin {
  let bridge: ScriptBridge | undefined;
  const open = async (self: Plugin, info: OpenInfo): Promise<Handle> => {
    bridge ??= new ScriptBridge();
    const native = new (addon().NativeExport)(undefined, sessionOf(info), {
      threads: THREADS,
      readonly: info.readonly,
      chain: chain.facts.number,
    });
    let result: { opened: OpenedExport | null; inner: unknown } | undefined;
    try {
      const behind = seenBy(self, plugin);
      const { opened, script } = await openScriptExport(behind, bridge, native, info, chain);
      result = { opened, inner: script.handle };
    } finally {
      if (!result?.opened) native.release();
    }
    return { native, opened: answered(result.opened), inner: result.inner };
  };
  // Filters do not look at what only the plugin knows of.
  const metaContexts =
    plugin.metaContexts &&
    mapStatus(
      plugin.metaContexts,
      ({ status }) =>
        function (this: MetaContext<unknown>, handle: unknown, ...rest) {
          return status.call(this, (handle as Handle).inner, ...rest);
        },
    );
  return inFrontOf(plugin, {
    ...nativeCallbacks,
    ...(metaContexts && { metaContexts }),
    open(this: Plugin, info: OpenInfo) {
      return open(this, info);
    },
  });
}
