// A plugin, in C or in TypeScript, with filters in front of it.

import type { NativeServer, PluginAbout } from "../addon/types.js";
import type { Middleware } from "../middleware/wrap.js";
import { CPlugin } from "../plugins/c-plugin.js";
import { NativeChain } from "../plugins/native-chain.js";
import { nativeRunOf } from "../plugins/native-run.js";
import {
  type ClientStream,
  type NewSession,
  type PluginInstance,
  partsOf,
} from "../plugins/plugin-instance.js";
import type { Plugin } from "../plugins/script/definition.js";
import { helpOf, ParameterSet } from "../plugins/script/parameters.js";
import { RunnablePlugin } from "../plugins/script/runner.js";
import type { Filter, OpenedFilter } from "./filter.js";

export class FilteredPlugin extends RunnablePlugin implements PluginInstance {
  readonly about: PluginAbout;
  readonly #behind: PluginInstance;
  readonly #filters: readonly (OpenedFilter & { parameters: ParameterSet })[];
  readonly #threads: number;
  #middleware: readonly Middleware[] = [];
  readonly #isNative: boolean[] = []; // of each filter, once it is in front of something
  #direct: Direct | undefined;

  /** The first filter is the one that clients meet. `threads`: calls of a C plugin at once. */
  constructor(behind: PluginInstance, filters: readonly OpenedFilter[], threads: number) {
    super();
    this.#behind = behind;
    this.#threads = threads;
    this.#filters = filters.map(({ filter, origin }) => ({
      filter,
      origin,
      parameters: new ParameterSet(`filter ${filter.name}`, filter.config),
    }));
    this.about = aboutOf(
      behind.about,
      filters.map(({ filter }) => filter),
    );
  }

  get serializesConnections(): boolean {
    return this.#behind.serializesConnections;
  }

  get isShutdownRequested(): boolean {
    return this.#behind.isShutdownRequested ?? false;
  }

  get unansweredRequests(): number {
    return this.#behind.unansweredRequests;
  }

  setDebugFlag(flag: string, value: number): boolean {
    return this.#behind.setDebugFlag(flag, value);
  }

  async load(): Promise<void> {
    await this.#behind.load();
  }

  /** The first filter that has such a parameter gets it, else the plugin. */
  config(key: string, value: string | number | boolean): void {
    const owner = this.#filters.find(({ parameters }) => parameters.has(key));
    if (owner !== undefined) owner.parameters.set(key, value);
    else
      this.#behind.config(
        key,
        value,
        this.#filters.flatMap(({ parameters }) => parameters.names),
      );
  }

  async configComplete(): Promise<void> {
    this.#middleware = this.#filters.map(({ filter, parameters }) =>
      filter.create(parameters.values()),
    );
    await this.#behind.configComplete();
  }

  settleThreadModel(): void {
    this.#behind.settleThreadModel();
  }

  async dump(write: (lines: string) => void): Promise<void> {
    await this.#behind.dump(write);
  }

  /** Clients meet the first: what it is, and where it comes from. */
  get parts(): readonly string[] {
    const filters = this.#filters.map(({ filter, origin }, i) => {
      const native = this.#isNative[i] ? "native, " : "";
      return `filter ${filter.name} (${native}${origin})`;
    });
    return [...filters, ...partsOf(this.#behind)];
  }

  asDefinition(threads: number): Plugin {
    return this.#inFrontOf(this.#behind.asDefinition(threads));
  }

  /** Where all filters in front of a C plugin are native, no request comes to JavaScript. */
  override async getReady(): Promise<void> {
    const behind = this.#behind;
    if (!(behind instanceof CPlugin)) return super.getReady();
    const base = behind.asDefinition(this.#threads);
    const { filters, plugin } = nativeRunOf(this.#inFrontOf(base));
    if (plugin !== base) return super.getReady();
    const chain = new NativeChain(filters);
    chain.make();
    this.#direct = { plugin: behind, chain };
    behind.getReady();
  }

  override async afterFork(): Promise<void> {
    if (this.#direct === undefined) await super.afterFork();
    else this.#direct.plugin.afterFork();
  }

  override newSession(server: NativeServer, stream: ClientStream): NewSession {
    const direct = this.#direct;
    if (direct === undefined) return super.newSession(server, stream);
    return direct.plugin.newSession(server, stream, direct.chain.facts.number);
  }

  override async end(): Promise<void> {
    if (this.#direct === undefined) return super.end();
    this.#direct.chain.drop();
    await this.#direct.plugin.end();
  }

  protected pluginToRun(): Plugin {
    return this.asDefinition(this.#threads);
  }

  protected async endUnready(): Promise<void> {
    await this.#behind.end();
  }

  #inFrontOf(plugin: Plugin): Plugin {
    return this.#middleware.reduceRight((behind, middleware, i) => {
      const front = middleware(behind);
      this.#isNative[i] = front !== behind && nativeRunOf(front).filters.length > 0;
      return front;
    }, plugin);
  }
}

/** A C plugin whose clients native code serves, through filters too. */
interface Direct {
  readonly plugin: CPlugin;
  readonly chain: NativeChain;
}

function aboutOf(about: PluginAbout, filters: readonly Filter[]): PluginAbout {
  const helps = filters.map((filter) => {
    const help = helpOf(filter.config);
    return help === undefined ? undefined : `filter: ${filter.name}\n${help}`;
  });
  const texts = [about.configHelp?.trimEnd(), ...helps].filter((help) => help !== undefined);
  return texts.length === 0 ? about : { ...about, configHelp: texts.join("\n") };
}
