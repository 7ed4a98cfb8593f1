// Hands an export that JavaScript has opened to native code, which puts native filters in front of it
// if there are any, and sends its requests over the bridge.

import type {
  AdoptedExport,
  BlockSizes,
  NativeSession,
  OpenedExport,
  ScriptCapabilities,
  WantedFacts,
} from "../../addon/types.js";
import { checkFacts } from "../checked-export.js";
import { type Client, diskOf, type ExportSource } from "../export-source.js";
import type { NativeChain } from "../native-chain.js";
import type { ScriptBridge } from "./bridge.js";
import { ScriptExport } from "./export.js";
import type { ExportFacts, OpenExport } from "./layer.js";
import type { BlockSize, OpenInfo } from "./requests.js";
import { turnsOf } from "./turns.js";

/** What is opened, from where, for whom, and behind what. */
export interface Opening {
  readonly source: ExportSource;
  readonly info: OpenInfo;
  readonly client: Client;
  readonly chain: NativeChain | undefined;
}

const blockSizesOf = (size: BlockSize | undefined): BlockSizes =>
  size === undefined ? [0, 0, 0] : [size.minimum, size.preferred, size.maximum];

function capabilitiesOf(facts: ExportFacts, { source, info }: Opening): ScriptCapabilities {
  const { blockSize, description, contexts, ...others } = facts;
  const canWrite = facts.canWrite && !info.readonly; // whatever middleware says
  return {
    ...others,
    canWrite,
    sizeBytes: BigInt(facts.sizeBytes),
    zero: canWrite ? facts.zero : "none",
    serializesConnections: source.serializesConnections,
    blockSizesBind: source.blockSizesBind,
  };
}

/**
 * Takes the export over: it is closed by the bridge, or here on failure. Rejects if the plugin fails.
 * null: a native filter has, which has been logged.
 */
export async function handOver(
  opened: OpenExport,
  native: Pick<NativeSession, "adoptExport">,
  bridge: ScriptBridge,
  opening: Opening,
  wanted: WantedFacts,
): Promise<OpenedExport | null> {
  const { source, info, client, chain } = opening;
  const { facts } = opened;
  let adopted: AdoptedExport;
  try {
    checkFacts(source.name, facts);
    adopted = {
      name: info.exportName,
      disk: chain?.facts.keepsState ? await diskOf(source, info, client) : "",
      capabilities: capabilitiesOf(facts, opening),
      description: facts.description,
      blockSizes: blockSizesOf(facts.blockSize),
      turns: turnsOf(opened),
    };
  } catch (error) {
    await opened.close();
    throw error;
  }
  const { name, requestTimeoutMs } = source;
  const isParallel = adopted.turns === undefined;
  const script = new ScriptExport(opened, { name, requestTimeoutMs, isParallel });
  return native.adoptExport(bridge.native, bridge.register(script), adopted, wanted);
}
