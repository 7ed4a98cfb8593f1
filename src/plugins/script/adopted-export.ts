// Hands an export that JavaScript has opened to native code, which puts native filters in front of it
// if there are any, and sends its requests over the bridge.

import type {
  AdoptedExport,
  Answer,
  BlockSizes,
  DescribedExport,
  ExportEntry,
  NativeSession,
  OpenedExport,
  ScriptCapabilities,
  WantedFacts,
} from "../../addon/types.js";
import { checkFacts } from "../checked-export.js";
import { type Client, diskOf, type ExportSource } from "../export-source.js";
import type { NativeChain } from "../native-chain.js";
import type { ScriptBridge } from "./bridge.js";
import { diskMemoryOf, placeOf } from "./disk-memory.js";
import { describeThrown, readFailure } from "./errno.js";
import { ScriptExport } from "./export.js";
import type { ExportFacts, OpenExport } from "./layer.js";
import type { BlockSize, ClientInfo, OpenInfo } from "./requests.js";
import { turnsOf } from "./turns.js";

/** What is opened, from where, for whom, and behind what. */
export interface Opening {
  readonly source: ExportSource;
  readonly info: OpenInfo;
  readonly client: Client;
  readonly chain: NativeChain | undefined;
  /** Opens what is behind the chain. */
  readonly open: (info: OpenInfo, client: Client) => Promise<OpenExport>;
}

const blockSizesOf = (size: BlockSize | undefined): BlockSizes =>
  size === undefined ? [0, 0, 0] : [size.minimum, size.preferred, size.maximum];

function capabilitiesOf(
  facts: ExportFacts,
  source: ExportSource,
  readonly: boolean,
): ScriptCapabilities {
  const { blockSize, description, contexts, ...others } = facts;
  const canWrite = facts.canWrite && !readonly; // whatever middleware says
  return {
    ...others,
    canWrite,
    sizeBytes: BigInt(facts.sizeBytes),
    zero: canWrite ? facts.zero : "none",
    serializesConnections: source.serializesConnections,
    blockSizesBind: source.blockSizesBind,
  };
}

/** Throws if what the plugin says of it makes no sense. */
function described(opened: OpenExport, source: ExportSource, readonly: boolean): DescribedExport {
  const { facts } = opened;
  checkFacts(source.name, facts);
  return {
    capabilities: capabilitiesOf(facts, source, readonly),
    description: facts.description,
    blockSizes: blockSizesOf(facts.blockSize),
    turns: turnsOf(opened),
    place: placeOf(opened),
  };
}

/** From now on the bridge serves it; returns its number there. */
function register(
  bridge: ScriptBridge,
  opened: OpenExport,
  { name, requestTimeoutMs }: ExportSource,
): number {
  const isParallel = turnsOf(opened) === undefined;
  const disk = diskMemoryOf(opened);
  return bridge.register(new ScriptExport(opened, { name, requestTimeoutMs, isParallel, disk }));
}

/** Closes it if `use` fails. */
async function closedOnFailure<T>(opened: OpenExport, use: () => T | Promise<T>): Promise<T> {
  try {
    return await use();
  } catch (error) {
    await opened.close();
    throw error;
  }
}

/** Of whom native filters ask, and for whom. */
type Asked = Pick<Opening, "source" | "client" | "chain" | "open"> & { readonly info: ClientInfo };

/** Answers native filters in front; `open` opens what is behind them. */
export const answersOf =
  (bridge: ScriptBridge, { source, info, client, chain, open }: Asked): Answer =>
  async (question, exportName, readonly, done) => {
    const asking = { readonly, tls: info.tls };
    const opener = chain?.facts.opensForAll ? { ...client, isForAll: true } : client;
    try {
      switch (question) {
        case "open": {
          const opened = await open({ ...asking, exportName }, opener);
          const it = await closedOnFailure(opened, () => described(opened, source, readonly));
          return done(register(bridge, opened, source), it);
        }
        case "preconnect":
          return done(await source.preconnect(asking, client));
        case "listExports":
          return done(await listedBy(source, asking, client));
        case "defaultExport":
          return done(await source.defaultExport(asking, client));
      }
    } catch (error) {
      if (readFailure(error).shouldBeLogged)
        bridge.log.error(`${source.name}: ${describeThrown(error)}`);
      done();
    }
  };

/** With the default if it is all there is. */
export async function listedBy(
  source: ExportSource,
  info: ClientInfo,
  client: Client,
): Promise<ExportEntry[]> {
  const listed = await source.listExports(info, client);
  return listed ?? [{ name: await source.defaultExport(info, client), description: "" }];
}

/**
 * Takes the export over: it is closed by the bridge, or here on failure. undefined: a native filter
 * opens one when it needs it. Rejects if the plugin fails. null: a native filter has, which has been
 * logged.
 */
export async function handOver(
  opened: OpenExport | undefined,
  native: Pick<NativeSession, "adoptExport">,
  bridge: ScriptBridge,
  opening: Opening,
  wanted: WantedFacts,
): Promise<OpenedExport | null> {
  const { source, info, client, chain } = opening;
  const asked = async (): Promise<AdoptedExport> => ({
    name: info.exportName,
    disk: chain?.facts.keepsState ? await diskOf(source, info, client) : "",
    answer: answersOf(bridge, opening),
  });
  if (opened === undefined)
    return native.adoptExport(bridge.native, undefined, await asked(), wanted);
  const adopted = await closedOnFailure(opened, async () => ({
    ...described(opened, source, info.readonly),
    ...(await asked()),
  }));
  const connection = register(bridge, opened, source);
  return native.adoptExport(bridge.native, connection, adopted, wanted);
}
