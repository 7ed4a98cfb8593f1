// A C plugin as the source of exports, so that middleware can stand in front of it.

import { addon } from "../addon/addon.js";
import type { ExportEntry, MetaContextEntry, NativeExport, NativePlugin } from "../addon/types.js";
import type { Client, ExportSource } from "./export-source.js";
import type { NativeChain } from "./native-chain.js";
import { answered, exportOfNative, WANTS_ALL } from "./native-export.js";
import type { OpenExport } from "./script/layer.js";
import type { ClientInfo, OpenInfo } from "./script/requests.js";

/** A call of the plugin, with the export that it may open. */
class Call {
  readonly over: Promise<void>;
  end = (): void => {};

  constructor() {
    this.over = new Promise((resolve) => {
      this.end = resolve;
    });
  }
}

/** Native code takes care of the thread model, and of what stands in for missing callbacks. */
export class CSource implements ExportSource {
  readonly name: string;
  readonly requestTimeoutMs = undefined;
  readonly blockSizesBind = false; // as with nbdkit
  readonly serializesConnections: boolean;
  readonly callModel: number;
  readonly #native: NativePlugin;
  readonly #calls = new Set<Call>(); // in progress

  constructor(native: NativePlugin) {
    this.name = native.about.name;
    this.callModel = native.threadModel;
    this.serializesConnections = this.callModel === 0;
    this.#native = native;
  }

  preconnect(client: ClientInfo, asking: Client): Promise<boolean> {
    return this.#ask(client, asking, (asked) => asked.preconnect());
  }

  async listExports(client: ClientInfo, asking: Client): Promise<ExportEntry[]> {
    return answered(await this.#ask(client, asking, (asked) => asked.listExports()));
  }

  async defaultExport(client: ClientInfo, asking: Client): Promise<string> {
    return answered(await this.#ask(client, asking, (asked) => asked.defaultExport()));
  }

  async metaContexts(info: OpenInfo, asking: Client): Promise<MetaContextEntry[]> {
    const asked = await this.#ask(info, asking, (it) => it.metaContexts(info.exportName));
    return answered(asked);
  }

  open(info: OpenInfo, asking: Client, chain?: NativeChain): Promise<OpenExport> {
    return this.#during(async (call) => {
      const opened = await this.#open(info, asking, chain);
      const close = () => Promise.resolve(opened.close()).finally(call.end);
      return { ...opened, close };
    });
  }

  openBehind = (chain: NativeChain, info: OpenInfo, asking: Client): Promise<OpenExport> =>
    this.open(info, asking, chain);

  callsOver = async (): Promise<void> => {
    await Promise.all([...this.#calls].map(({ over }) => over));
  };

  /** `run` ends the call, unless it fails. */
  async #during<T>(run: (call: Call) => Promise<T>): Promise<T> {
    const call = new Call();
    this.#calls.add(call);
    try {
      return await run(call);
    } catch (error) {
      call.end();
      throw error;
    } finally {
      this.#calls.delete(call);
    }
  }

  async #open(info: OpenInfo, asking: Client, chain?: NativeChain): Promise<OpenExport> {
    const isBehind = chain?.facts.opensBehind ?? false; // filters that know of none
    const contexts = isBehind ? [] : await this.metaContexts(info, asking);
    const native = this.#exportFor(info, asking, chain);
    const opened = await native.openExport(info.exportName, WANTS_ALL);
    if (opened === null) native.release();
    return exportOfNative(
      native,
      answered(opened),
      contexts.map(({ name }) => name),
    );
  }

  #exportFor(
    client: ClientInfo,
    { session, threads, isForAll = false }: Client,
    chain?: NativeChain,
  ): NativeExport {
    return new (addon().NativeExport)(this.#native, session, {
      threads,
      readonly: client.readonly,
      isForAll,
      ...(chain !== undefined && { chain: chain.facts.number }),
    });
  }

  /** What needs no open export. */
  #ask<T>(
    client: ClientInfo,
    asking: Client,
    question: (asked: NativeExport) => Promise<T>,
  ): Promise<T> {
    return this.#during(async (call) => {
      const asked = this.#exportFor(client, asking);
      try {
        return await question(asked);
      } finally {
        asked.release();
        call.end();
      }
    });
  }
}
