// One client at the table of exports, from its accept to its end: answers what its handshake asks by
// the export that it names. Where there is one for all names, the client is at it from the beginning.

import type { ExportEntry, MetaContextEntry, OpenedExport, WantedFacts } from "../addon/types.js";
import type { Client } from "../plugins/export-source.js";
import type { Export } from "./export.js";
import type { Clock, ExportClient } from "./export-client.js";
import type { ExportTable } from "./table.js";

/** Where the client is. */
interface Place {
  readonly export: Export;
  readonly client: ExportClient;
}

export class Visit {
  readonly #table: ExportTable;
  readonly #client: Client;
  #place: Place | undefined;
  #isRef = true;

  constructor(table: ExportTable, client: Client) {
    this.#table = table;
    this.#client = client;
    if (table.only !== undefined) this.#go(table.only);
  }

  /** False: the client is rejected before it has said anything. */
  async begin(): Promise<boolean> {
    return this.#place === undefined || this.#place.client.preconnect();
  }

  /** null: the plugin failed, which has been logged. */
  async listExports(): Promise<ExportEntry[] | null> {
    return this.#table.only === undefined ? this.#table.list() : this.#here.calls.listExports();
  }

  /** null: there is no such export, it rejects the client, or the plugin failed. */
  async metaContexts(asked: string): Promise<MetaContextEntry[] | null> {
    const name = await this.#enter(asked);
    return name === undefined ? null : this.#here.calls.metaContexts(name);
  }

  /** null as for metaContexts; undefined: the client has left before its turn. */
  async openExport(
    asked: string,
    wanted: WantedFacts,
    clock: Clock,
  ): Promise<OpenedExport | null | undefined> {
    const name = await this.#enter(asked);
    return name === undefined ? null : this.#here.open(name, wanted, clock);
  }

  closeExport(): Promise<void> {
    return this.#here.close();
  }

  /** To a connection, which closes it. */
  handOver(): void {
    this.#here.handOver();
  }

  /** At any time: the client waits for no other. */
  giveUp(): void {
    this.#place?.client.giveUp();
  }

  /** Whether the process stays alive while the client waits for others, as it does at first. */
  setRef(isRef: boolean): void {
    this.#isRef = isRef;
    this.#place?.client.setRef(isRef);
  }

  /** Last. */
  async leave(): Promise<void> {
    await this.#place?.client.leave();
  }

  get #here(): ExportClient {
    return (this.#place as Place).client;
  }

  /** Returns the name by which the export is known to its chain. */
  async #enter(asked: string): Promise<string | undefined> {
    const found = this.#table.find(asked);
    if (found === undefined) return undefined;
    if (found.export !== this.#place?.export) {
      await this.leave();
      this.#go(found.export);
    }
    return (await this.#here.preconnect()) ? found.name : undefined;
  }

  #go(to: Export): void {
    const client = to.enter(this.#client);
    client.setRef(this.#isRef);
    this.#place = { export: to, client };
  }
}
