// Answers the handshake's questions from a TypeScript plugin, for one client.

import { addon } from "../../addon/addon.js";
import type {
  BlockSizes,
  ExportEntry,
  MetaContextEntry,
  NativeSession,
  OpenedExport,
} from "../../addon/types.js";
import type { NativeChain } from "../native-chain.js";
import type { HandshakeCalls } from "../plugin-instance.js";
import type { ScriptBridge } from "./bridge.js";
import { withSession } from "./client.js";
import type { Plugin } from "./definition.js";
import { describeThrown, readFailure } from "./errno.js";
import type { ScriptExport } from "./export.js";
import { askBlockSizes, askDescription, openScriptExport } from "./open-export.js";
import type { ClientInfo } from "./requests.js";

export class ScriptHandshakeCalls implements HandshakeCalls {
  readonly #plugin: Plugin;
  readonly #bridge: ScriptBridge;
  readonly #native: NativeSession;
  readonly #client: ClientInfo;
  readonly #chain: NativeChain | undefined;
  #open: ScriptExport | undefined;
  #defaultExport: string | undefined;
  #lastLogged: string | undefined;

  /** `chain`: of the native session. */
  constructor(
    plugin: Plugin,
    bridge: ScriptBridge,
    native: NativeSession,
    client: ClientInfo,
    chain: NativeChain | undefined,
  ) {
    this.#chain = chain;
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
      const exportName = asked === "" ? await this.#nameOfDefault() : asked;
      const info = { ...this.#client, exportName };
      const native = this.#native;
      const chain = this.#chain;
      const { opened, script } = await openScriptExport(
        this.#plugin,
        this.#bridge,
        native,
        info,
        chain,
      );
      this.#open = script;
      return opened;
    });
  }

  async exportDescription(): Promise<string> {
    if (this.#chain !== undefined) return this.#native.exportDescription();
    return (await this.#try(() => askDescription(this.#open as ScriptExport))) ?? "";
  }

  async blockSizes(): Promise<BlockSizes | null> {
    if (this.#chain !== undefined) return this.#native.blockSizes();
    return this.#try(() => askBlockSizes(this.#open as ScriptExport));
  }

  closeExport(): Promise<void> {
    return this.#native.closeExport();
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
