// What JavaScript opens exports of: a plugin in TypeScript, or one in C that middleware stands in
// front of.

import type { ExportEntry, MetaContextEntry, NativeSession } from "../addon/types.js";
import type { NativeChain } from "./native-chain.js";
import type { OpenExport } from "./script/layer.js";
import type { Awaitable, ClientInfo, OpenInfo } from "./script/requests.js";

/** On whose behalf exports are opened. */
export interface Client {
  readonly session: NativeSession;
  readonly readonly: boolean;
  /** Calls of a C plugin in progress at once, if it can take more than one. */
  readonly threads: number;
  /** It is only the first of those who have what is opened. */
  readonly isForAll?: boolean;
}

/** Functions fail by exceptions. */
export interface ExportSource {
  /** Of the plugin. */
  readonly name: string;
  /** A request without an answer after so long has failed. */
  readonly requestTimeoutMs: number | undefined;
  readonly serializesConnections: boolean;
  /** Clients that were told of block sizes must keep to them. */
  readonly blockSizesBind: boolean;
  /** NBDKIT_THREAD_MODEL_*. */
  readonly callModel: number;
  /** False: the client is rejected. */
  preconnect(client: ClientInfo, asking: Client): Awaitable<boolean>;
  /** undefined: nothing but the default. */
  listExports(client: ClientInfo, asking: Client): Awaitable<ExportEntry[] | undefined>;
  /** What a client gets that asks for "". */
  defaultExport(client: ClientInfo, asking: Client): Awaitable<string>;
  /** That clients of the export can select. */
  metaContexts(info: OpenInfo, asking: Client): Awaitable<MetaContextEntry[]>;
  open(info: OpenInfo, asking: Client): Promise<OpenExport>;
  /**
   * Resolves when no call is in progress, and what was being opened is closed: filters in front may
   * have given that up, which lets the client go, but keeps the plugin from its end.
   */
  readonly callsOver?: () => Promise<void>;
  /** If native code can open it behind native filters. */
  readonly openBehind?: (chain: NativeChain, info: OpenInfo, asking: Client) => Promise<OpenExport>;
}

/** Which disk a client opens: a name that is listed beside the default, or "" for all others. */
export async function diskOf(
  source: ExportSource,
  info: OpenInfo,
  asking: Client,
): Promise<string> {
  const name = info.exportName;
  if (name === "" || name === (await source.defaultExport(info, asking))) return "";
  const listed = (await source.listExports(info, asking)) ?? [];
  return listed.some((entry) => entry.name === name) ? name : "";
}
