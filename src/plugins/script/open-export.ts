// Opens an export of a plugin in TypeScript for one client, behind native filters if there are any,
// and hands it to native code.

import type { AdoptedExport, BlockSizes, NativeSession, OpenedExport } from "../../addon/types.js";
import type { NativeChain } from "../native-chain.js";
import type { ScriptBridge } from "./bridge.js";
import type { Plugin } from "./definition.js";
import { askCapabilities, ScriptExport } from "./export.js";
import type { OpenInfo } from "./requests.js";

const isPowerOfTwo = (value: number): boolean => Number.isInteger(Math.log2(value));

/** The rules of "Block size constraints". */
function areBlockSizes([minimum, preferred, maximum]: BlockSizes): boolean {
  return (
    isPowerOfTwo(minimum) &&
    minimum <= 65536 &&
    isPowerOfTwo(preferred) &&
    preferred >= Math.max(512, minimum) &&
    preferred <= Math.min(2 ** 25, maximum) &&
    (maximum === 2 ** 32 - 1 || (Number.isInteger(maximum / minimum) && maximum < 2 ** 32))
  );
}

/** Rejects if the plugin fails, or says what cannot be. */
export async function askBlockSizes({ plugin, handle }: ScriptExport): Promise<BlockSizes> {
  const size = await plugin.blockSize?.(handle);
  if (size === undefined) return [0, 0, 0];
  const sizes = [size.minimum, size.preferred, size.maximum] as const;
  if (!areBlockSizes(sizes)) throw new Error(`blockSize returned ${sizes.join(", ")}`);
  return sizes;
}

export const askDescription = async ({ plugin, handle }: ScriptExport): Promise<string> =>
  (await plugin.exportDescription?.(handle)) ?? "";

/** Which disk a client has opened: a name that the plugin lists beside its default, or "". */
export async function diskOf(plugin: Plugin, info: OpenInfo): Promise<string> {
  const name = info.exportName;
  if (name === "") return "";
  if (name === ((await plugin.defaultExport?.(info)) ?? "")) return "";
  const listed = (await plugin.listExports?.(info)) ?? [];
  return listed.some((entry) => (typeof entry === "string" ? entry : entry.name) === name)
    ? name
    : "";
}

/** What filters may want to change is asked at once; else when a client wants to know. */
async function factsFor(
  script: ScriptExport,
  name: string,
  disk: string,
  chain: NativeChain | undefined,
): Promise<AdoptedExport> {
  const { capabilities } = script;
  if (chain === undefined)
    return { name, disk, capabilities, description: "", blockSizes: [0, 0, 0] };
  const description = await askDescription(script);
  return { name, disk, capabilities, description, blockSizes: await askBlockSizes(script) };
}

/**
 * `native` has the bridge close it. Rejects if the plugin fails. `opened` is null if a filter does,
 * which has been logged.
 */
export async function openScriptExport(
  plugin: Plugin,
  bridge: ScriptBridge,
  native: Pick<NativeSession, "adoptExport">,
  info: OpenInfo,
  chain: NativeChain | undefined,
): Promise<{ opened: OpenedExport | null; script: ScriptExport }> {
  const disk = chain?.facts.keepsState ? await diskOf(plugin, info) : "";
  const readonly = info.readonly || (chain?.facts.opensReadonly ?? false);
  const handle = await plugin.open?.({ ...info, readonly });
  let script: ScriptExport;
  let facts: AdoptedExport;
  try {
    script = new ScriptExport(plugin, handle, await askCapabilities(plugin, handle, readonly));
    facts = await factsFor(script, info.exportName, disk, chain);
  } catch (error) {
    await plugin.close?.(handle);
    throw error;
  }
  const opened = await native.adoptExport(bridge.native, bridge.register(script), facts);
  return { opened, script };
}
