// A plugin in TypeScript as the source of exports: opens one for a client, and asks what it can do.

import type { Log } from "../../addon/log.js";
import type { ExportEntry, MetaContextEntry } from "../../addon/types.js";
import { AsyncnbdError } from "../../errors.js";
import type { ExportSource } from "../export-source.js";
import type { MetaContext, Plugin, ThreadModelName } from "./definition.js";
import { liesIn } from "./disk-memory.js";
import { describeThrown, failure, readFailure } from "./errno.js";
import type { ExportFacts, OpenExport } from "./layer.js";
import type { ClientInfo, OpenInfo, Support } from "./requests.js";
import { PluginTurns } from "./turns.js";

/** By their numbers, NBDKIT_THREAD_MODEL_*. */
export const THREAD_MODELS: readonly ThreadModelName[] = [
  "serialize_connections",
  "serialize_all_requests",
  "serialize_requests",
  "parallel",
];

export class ScriptSource implements ExportSource {
  readonly blockSizesBind = true;
  readonly #log: Log;
  readonly #plugin: Plugin;
  readonly #turns: PluginTurns;

  constructor(plugin: Plugin, log: Log) {
    this.#log = log;
    this.#plugin = plugin;
    this.#turns = new PluginTurns(plugin.threadModel);
  }

  get name(): string {
    return this.#plugin.name;
  }

  get requestTimeoutMs(): number | undefined {
    return this.#plugin.requestTimeoutMs;
  }

  get serializesConnections(): boolean {
    return this.#plugin.threadModel === "serialize_connections";
  }

  get callModel(): number {
    return THREAD_MODELS.indexOf(this.#plugin.threadModel ?? "parallel");
  }

  async preconnect(client: ClientInfo): Promise<boolean> {
    const welcome: unknown = await this.#turns.run(() => this.#plugin.preconnect?.(client));
    return welcome !== false && welcome !== null;
  }

  async listExports(client: ClientInfo): Promise<ExportEntry[] | undefined> {
    const listed = await this.#turns.run(() => this.#plugin.listExports?.(client));
    return listed?.map((entry) =>
      typeof entry === "string"
        ? { name: entry, description: "" }
        : { name: entry.name, description: entry.description ?? "" },
    );
  }

  async defaultExport(client: ClientInfo): Promise<string> {
    return (await this.#turns.run(() => this.#plugin.defaultExport?.(client))) ?? "";
  }

  async metaContexts(info: OpenInfo): Promise<MetaContextEntry[]> {
    const entries: MetaContextEntry[] = [];
    const own = Object.entries(this.#plugin.metaContexts ?? {});
    for (const [index, [name, context]] of own.entries())
      if ((await this.#turns.run(() => context.isOffered?.call(this.#plugin, info))) ?? true)
        entries.push({ name, bits: context.bits ?? 32, number: index + 1 });
    return entries;
  }

  open(info: OpenInfo): Promise<OpenExport> {
    return this.#turns.run(() => this.#open(info));
  }

  async #open(info: OpenInfo): Promise<OpenExport> {
    const plugin = this.#plugin;
    const handle = await plugin.open?.(info);
    const close = () => plugin.close?.(handle);
    try {
      const facts = await askFacts(plugin, handle, info.readonly, this.#log);
      const opened = exportOf(plugin, handle, facts, () => this.#turns.run(close));
      const memory = await plugin.memory?.(handle);
      if (memory !== undefined) liesIn(opened, plugin.name, memory);
      return this.#turns.queued(opened);
    } catch (error) {
      await close();
      throw error;
    }
  }
}

/** Its callbacks are looked up at each request: a plugin may change them. */
function exportOf(
  plugin: Plugin,
  handle: unknown,
  facts: ExportFacts,
  close: OpenExport["close"],
): OpenExport {
  const missing = (callback: string): never => {
    throw failure("ENOTSUP", `${plugin.name} has no ${callback}`);
  };
  return {
    facts,
    read: (buf, offset, request) => plugin.pread(handle, buf, offset, request),
    write: (buf, offset, request) =>
      plugin.pwrite === undefined ? missing("pwrite") : plugin.pwrite(handle, buf, offset, request),
    flush: (request) =>
      plugin.flush === undefined ? missing("flush") : plugin.flush(handle, request),
    trim: (count, offset, request) =>
      plugin.trim === undefined ? missing("trim") : plugin.trim(handle, count, offset, request),
    zero: (count, offset, request) =>
      plugin.zero === undefined ? missing("zero") : plugin.zero(handle, count, offset, request),
    cache: (count, offset, request) =>
      plugin.cache === undefined ? missing("cache") : plugin.cache(handle, count, offset, request),
    extents: (count, offset, request) =>
      plugin.extents === undefined
        ? missing("extents")
        : plugin.extents(handle, count, offset, request),
    status: (name, count, offset, request) => {
      const context = plugin.metaContexts?.[name] as MetaContext<unknown> | undefined;
      return context === undefined
        ? missing(name)
        : context.status.call(plugin as never, handle, count, offset, request);
    },
    close,
  };
}

/** The questions in nbdkit's order, once each. */
export async function askFacts(
  plugin: Plugin,
  handle: unknown,
  readonly: boolean,
  log: Log,
): Promise<ExportFacts> {
  const sizeBytes = checkSize(await plugin.getSize(handle));
  const has = (callback: unknown): boolean => callback !== undefined;
  const canWrite = !readonly && ((await plugin.canWrite?.(handle)) ?? has(plugin.pwrite));
  if (canWrite && !has(plugin.pwrite))
    throw new AsyncnbdError("PLUGIN_INVALID", "canWrite returned true, but there is no pwrite");
  const nativeZero = (await plugin.canZero?.(handle)) ?? has(plugin.zero);
  return Object.freeze({
    sizeBytes,
    canWrite,
    zero: canWrite ? (nativeZero && has(plugin.zero) ? "native" : "emulate") : "none",
    // Zeroing by writing can be relied on to refuse a fast zero at once, which is all it takes.
    canFastZero: (await plugin.canFastZero?.(handle)) ?? !has(plugin.zero),
    canTrim: ((await plugin.canTrim?.(handle)) ?? true) && has(plugin.trim),
    fua: checkFua(plugin, await plugin.canFua?.(handle)),
    canFlush: ((await plugin.canFlush?.(handle)) ?? true) && has(plugin.flush),
    isRotational: (await plugin.isRotational?.(handle)) ?? false,
    canMultiConn:
      plugin.threadModel !== "serialize_connections" &&
      ((await plugin.canMultiConn?.(handle)) ?? false),
    cache: checkCache(plugin, await plugin.canCache?.(handle)),
    canExtents: ((await plugin.canExtents?.(handle)) ?? true) && has(plugin.extents),
    blockSize: await plugin.blockSize?.(handle),
    description: await askDescription(plugin, handle, log),
    contexts: Object.keys(plugin.metaContexts ?? {}),
  } satisfies ExportFacts);
}

/** A client can do without. */
async function askDescription(plugin: Plugin, handle: unknown, log: Log): Promise<string> {
  try {
    return (await plugin.exportDescription?.(handle)) ?? "";
  } catch (error) {
    if (readFailure(error).shouldBeLogged) log.error(`${plugin.name}: ${describeThrown(error)}`);
    return "";
  }
}

function checkSize(size: number | bigint): number {
  const isSafe = Number.isSafeInteger(Number(size)) && size >= 0;
  if (!isSafe || typeof size === "string")
    throw new AsyncnbdError(
      "PLUGIN_INVALID",
      `getSize returned ${size}: a size is a whole number of bytes up to 2^53-1`,
    );
  return Number(size);
}

const SUPPORTS: readonly unknown[] = ["none", "emulate", "native"] satisfies Support[];

function checkFua(plugin: Plugin, given: Support | undefined): Support {
  if (given === undefined) return plugin.flush === undefined ? "none" : "emulate";
  if (!SUPPORTS.includes(given) || (given === "emulate" && plugin.flush === undefined))
    throw new AsyncnbdError("PLUGIN_INVALID", `canFua returned ${given}, which is not possible`);
  return given;
}

function checkCache(plugin: Plugin, given: Support | undefined): Support {
  if (given === undefined) return plugin.cache === undefined ? "none" : "native";
  if (!SUPPORTS.includes(given) || (given === "native" && plugin.cache === undefined))
    throw new AsyncnbdError("PLUGIN_INVALID", `canCache returned ${given}, which is not possible`);
  return given;
}
