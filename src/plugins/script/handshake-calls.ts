// Answers the handshake's questions from a TypeScript plugin, for one client.

import { addon } from "../../addon/addon.js";
import type {
  BlockSizes,
  ExportEntry,
  MetaContextEntry,
  NativeSession,
  OpenedExport,
} from "../../addon/types.js";
import type { HandshakeCalls } from "../plugin-instance.js";
import type { ScriptBridge } from "./bridge.js";
import { withSession } from "./client.js";
import type { ClientInfo, Plugin } from "./definition.js";
import { describeThrown, readFailure } from "./errno.js";
import { askCapabilities, ScriptExport } from "./export.js";

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

export class ScriptHandshakeCalls implements HandshakeCalls {
  readonly #plugin: Plugin;
  readonly #bridge: ScriptBridge;
  readonly #native: NativeSession;
  readonly #client: ClientInfo;
  #open: ScriptExport | undefined;
  #defaultExport: string | undefined;
  #lastLogged: string | undefined;

  constructor(plugin: Plugin, bridge: ScriptBridge, native: NativeSession, client: ClientInfo) {
    this.#plugin = plugin;
    this.#bridge = bridge;
    this.#native = native;
    this.#client = withSession(client, native);
  }

  async preconnect(): Promise<boolean> {
    const welcome = await this.#try(() => this.#plugin.preconnect?.(this.#client));
    return welcome !== false && welcome !== null;
  }

  async listExports(): Promise<ExportEntry[] | null> {
    return this.#try(async () => {
      const listed = await this.#plugin.listExports?.(this.#client);
      if (listed === undefined) return [{ name: await this.#nameOfDefault(), description: "" }];
      return listed.map((entry) =>
        typeof entry === "string"
          ? { name: entry, description: "" }
          : { name: entry.name, description: entry.description ?? "" },
      );
    });
  }

  async metaContexts(asked: string): Promise<MetaContextEntry[] | null> {
    const own = Object.entries(this.#plugin.metaContexts ?? {});
    if (own.length === 0) return [];
    return this.#try(async () => {
      const exportName = asked === "" ? await this.#nameOfDefault() : asked;
      const entries: MetaContextEntry[] = [];
      for (const [index, [name, context]] of own.entries()) {
        const info = { ...this.#client, exportName };
        if ((await context.isOffered?.call(this.#plugin, info)) ?? true)
          entries.push({ name, bits: context.bits ?? 32, number: index + 1 });
      }
      return entries;
    });
  }

  async openExport(asked: string): Promise<OpenedExport | null> {
    return this.#try(async () => {
      const name = asked === "" ? await this.#nameOfDefault() : asked;
      const handle = await this.#plugin.open?.({ ...this.#client, exportName: name });
      try {
        const capabilities = await askCapabilities(this.#plugin, handle, this.#client.readonly);
        this.#open = new ScriptExport(this.#plugin, handle, capabilities);
      } catch (error) {
        await this.#plugin.close?.(handle);
        throw error;
      }
      const { zero, fua, cache, ...rest } = this.#open.capabilities;
      const can = { canZero: zero !== "none", canFua: fua !== "none", canCache: cache !== "none" };
      return { ...rest, ...can, name };
    });
  }

  async exportDescription(): Promise<string> {
    const opened = this.#open as ScriptExport;
    return (await this.#try(() => this.#plugin.exportDescription?.(opened.handle))) ?? "";
  }

  async blockSizes(): Promise<BlockSizes | null> {
    const opened = this.#open as ScriptExport;
    return this.#try(async () => {
      const size = await this.#plugin.blockSize?.(opened.handle);
      if (size === undefined) return [0, 0, 0] as const;
      const sizes = [size.minimum, size.preferred, size.maximum] as const;
      if (!areBlockSizes(sizes)) throw new Error(`blockSize returned ${sizes.join(", ")}`);
      return sizes;
    });
  }

  async closeExport(): Promise<void> {
    const opened = this.#open;
    this.#open = undefined;
    await this.#try(() => opened?.close());
  }

  beforeStart(): void {
    const opened = this.#open as ScriptExport;
    this.#open = undefined; // the connection's to close, from here on
    const { sizeBytes, canExtents } = opened.capabilities;
    const connection = this.#bridge.register(opened);
    this.#native.adoptExport(this.#bridge.native, connection, Number(sizeBytes), canExtents);
  }

  async #nameOfDefault(): Promise<string> {
    this.#defaultExport ??= (await this.#plugin.defaultExport?.(this.#client)) ?? "";
    return this.#defaultExport;
  }

  /** null: it failed, which has been logged. */
  async #try<T>(call: () => T | Promise<T>): Promise<T | null> {
    try {
      return await call();
    } catch (error) {
      this.#logOnce(error);
      return null;
    }
  }

  /** A client asks twice what has failed: about an export, and then for it. */
  #logOnce(error: unknown): void {
    const text = describeThrown(error);
    if (text === this.#lastLogged || !readFailure(error).shouldBeLogged) return;
    this.#lastLogged = text;
    addon().logError(`${this.#plugin.name}: ${text}`);
  }
}
