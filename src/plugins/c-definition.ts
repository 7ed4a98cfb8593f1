// A C plugin as the callbacks of one in TypeScript, so that middleware can stand in front of it.

import { addon } from "../addon/addon.js";
import type { NativeExport, NativePlugin } from "../addon/types.js";
import { answered, type NativeHandle, nativeCallbacks } from "./native-callbacks.js";
import type { NativeChain } from "./native-chain.js";
import { ownFront } from "./native-run.js";
import type { PluginInstance } from "./plugin-instance.js";
import { sessionOf } from "./script/client.js";
import type { Plugin } from "./script/definition.js";
import type { ClientInfo } from "./script/requests.js";

/**
 * Behind the chain. Native code takes care of the thread model, and of what stands in for missing
 * callbacks.
 */
export function definitionOf(
  plugin: PluginInstance,
  native: NativePlugin,
  threads: number,
  chain?: NativeChain,
): Plugin {
  const exportFor = (client: ClientInfo): NativeExport => {
    return new (addon().NativeExport)(native, sessionOf(client), {
      threads,
      readonly: client.readonly,
      ...(chain !== undefined && { chain: chain.facts.number }),
    });
  };
  /** What needs no open export. */
  const ask = async <T>(client: ClientInfo, question: (native: NativeExport) => Promise<T>) => {
    const asked = exportFor(client);
    try {
      return await question(asked);
    } finally {
      asked.release();
    }
  };
  return {
    name: plugin.about.name,
    threadModel: plugin.serializesConnections ? "serialize_connections" : "parallel",
    getReady: () => plugin.getReady(),
    afterFork: () => plugin.afterFork(),
    unload: () => plugin.end(), // cleanup too
    preconnect: (client) => ask(client, (asked) => asked.preconnect()),
    listExports: async (client) => answered(await ask(client, (asked) => asked.listExports())),
    defaultExport: async (client) => answered(await ask(client, (asked) => asked.defaultExport())),
    async open(info): Promise<NativeHandle> {
      const native = exportFor(info);
      const opened = await native.openExport(info.exportName);
      if (opened === null) native.release();
      return { native, opened: answered(opened) };
    },
    ...nativeCallbacks,
    ...ownFront((front) => definitionOf(plugin, native, threads, front)),
  };
}
