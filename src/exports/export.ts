// An export: a disk that clients share. Leads the life of its chain, has the queue of its clients
// where one of them has it open at a time, and knows who is at it.

import type { NativeTurns, PluginAbout } from "../addon/types.js";
import type { Client } from "../plugins/export-source.js";
import { Life, type OnCall, type Parameter } from "../plugins/life.js";
import type { Chain } from "./chain.js";
import { makeConnectionQueue } from "./connection-queue.js";
import { ExportClient } from "./export-client.js";

export class Export {
  readonly #chain: Chain;
  readonly #life: Life;
  #queue: NativeTurns | undefined;
  readonly #clients = new Set<ExportClient>();
  #onEmpty: () => void = () => {};

  constructor(chain: Chain) {
    this.#chain = chain;
    this.#life = new Life(chain);
  }

  get about(): PluginAbout {
    return this.#chain.about;
  }

  /** See Chain.parts. */
  get parts(): readonly string[] {
    return this.#chain.parts;
  }

  setDebugFlag(name: string, flag: string, value: number): boolean | undefined {
    return this.#chain.setDebugFlag(name, flag, value);
  }

  load(): Promise<void> {
    return this.#life.load();
  }

  async getReady(parameters: readonly Parameter[], signal?: AbortSignal): Promise<void> {
    await this.#life.getReady(parameters, signal);
    if (this.#chain.serializesConnections) this.#queue = makeConnectionQueue();
  }

  afterFork(): Promise<void> {
    return this.#life.afterFork();
  }

  /** Once it has drained, or where its start has failed. */
  end(onCall?: OnCall): Promise<void> {
    return this.#life.end(onCall);
  }

  /** See Chain.setRef. */
  setRef(isRef: boolean): void {
    this.#chain.setRef(isRef);
  }

  get isShutdownRequested(): boolean {
    return this.#chain.isShutdownRequested;
  }

  /** The client, which is at no other export now, is at this one until it leaves. */
  enter(client: Client): ExportClient {
    const entered = new ExportClient(this.#chain.callsFor(client), client, this.#queue, () => {
      this.#clients.delete(entered);
      if (this.#clients.size === 0) this.#onEmpty();
    });
    this.#clients.add(entered);
    return entered;
  }

  /**
   * Resolves when the last client has left, and what was open for all is closed. False: requests that
   * were given up may still be answered, so the export must not end.
   */
  async drained(): Promise<boolean> {
    if (this.#clients.size > 0)
      await new Promise<void>((resolve) => {
        this.#onEmpty = resolve;
      });
    await this.#chain.closeForAll();
    return this.#chain.unansweredRequests === 0;
  }
}
