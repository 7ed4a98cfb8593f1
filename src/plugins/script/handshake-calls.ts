// Answers the handshake's questions about exports that JavaScript opens, for one client.

import type {
  Answer,
  ExportEntry,
  MetaContextEntry,
  NativeScriptBridge,
  OpenedExport,
  WantedFacts,
} from "../../addon/types.js";
import type { Client, ExportSource } from "../export-source.js";
import { answered } from "../native-export.js";
import type { HandshakeCalls } from "../plugin-instance.js";
import { answersOf, handOver, listedBy } from "./adopted-export.js";
import type { ScriptBridge } from "./bridge.js";
import { type Chain, openedBehind } from "./chain.js";
import { describeThrown, readFailure } from "./errno.js";
import type { ClientInfo } from "./requests.js";

export class ScriptHandshakeCalls implements HandshakeCalls {
  readonly #source: ExportSource;
  readonly #chain: Chain;
  readonly #bridge: ScriptBridge;
  readonly #info: ClientInfo;
  readonly #client: Client;
  #defaultExport: string | undefined;
  #lastLogged: string | undefined;

  /** `chain.front`: of the native session. */
  constructor(
    source: ExportSource,
    chain: Chain,
    bridge: ScriptBridge,
    info: ClientInfo,
    client: Client,
  ) {
    this.#source = source;
    this.#chain = chain;
    this.#bridge = bridge;
    this.#info = info;
    this.#client = client;
  }

  /** For filters in front that are asked about clients, and ask what is behind them. */
  get #asked(): [NativeScriptBridge, Answer] | undefined {
    if (!this.#chain.front?.seesClients) return undefined;
    const { front: chain, open } = this.#chain;
    const opening = { source: this.#source, info: this.#info, client: this.#client, chain, open };
    return [this.#bridge.native, answersOf(this.#bridge, opening)];
  }

  async preconnect(): Promise<boolean> {
    const asked = this.#asked;
    if (asked !== undefined) return this.#client.session.preconnect(...asked);
    return (await this.#try(() => this.#source.preconnect(this.#info, this.#client))) ?? false;
  }

  async listExports(): Promise<ExportEntry[] | null> {
    const asked = this.#asked;
    if (asked !== undefined) return this.#client.session.listExports(...asked);
    return this.#try(() => listedBy(this.#source, this.#info, this.#client));
  }

  async metaContexts(asked: string): Promise<MetaContextEntry[] | null> {
    if (this.#chain.front?.facts.opensBehind) return []; // nbdkit's filters know of none
    return this.#try(async () => {
      const exportName = asked === "" ? await this.#nameOfDefault() : asked;
      return this.#source.metaContexts({ ...this.#info, exportName }, this.#client);
    });
  }

  async openExport(name: string, wanted: WantedFacts): Promise<OpenedExport | null> {
    const asked = this.#asked;
    if (asked !== undefined) return this.#client.session.openExport(name, wanted, ...asked);
    return this.#try(async () => {
      const exportName = name === "" ? await this.#nameOfDefault() : name;
      const info = { ...this.#info, exportName };
      const { front: chain } = this.#chain;
      const client = this.#client;
      const opened = await openedBehind(chain, this.#chain.open, info, client);
      const opening = { source: this.#source, info, client, chain, open: this.#chain.open };
      return handOver(opened, client.session, this.#bridge, opening, wanted);
    });
  }

  closeExport(): Promise<void> {
    return this.#client.session.closeExport();
  }

  /** As filters in front have it. */
  async #nameOfDefault(): Promise<string> {
    const asked = this.#asked;
    this.#defaultExport ??=
      asked === undefined
        ? await this.#source.defaultExport(this.#info, this.#client)
        : answered(await this.#client.session.defaultExport(...asked));
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
    this.#bridge.log.error(`${this.#source.name}: ${text}`);
  }
}
