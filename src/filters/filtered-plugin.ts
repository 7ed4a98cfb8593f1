// A plugin, in C or in TypeScript, with filters in front of it.

import type { PluginAbout } from "../addon/types.js";
import type { Middleware } from "../middleware/wrap.js";
import type { PluginInstance } from "../plugins/plugin-instance.js";
import type { Plugin } from "../plugins/script/definition.js";
import { helpOf, ParameterSet } from "../plugins/script/parameters.js";
import { RunnablePlugin } from "../plugins/script/runner.js";
import type { Filter } from "./filter.js";

export class FilteredPlugin extends RunnablePlugin implements PluginInstance {
  readonly about: PluginAbout;
  readonly #behind: PluginInstance;
  readonly #filters: readonly { filter: Filter; parameters: ParameterSet }[];
  readonly #threads: number;
  #middleware: readonly Middleware[] = [];

  /** The first filter is the one that clients meet. `threads`: calls of a C plugin at once. */
  constructor(behind: PluginInstance, filters: readonly Filter[], threads: number) {
    super();
    this.#behind = behind;
    this.#threads = threads;
    this.#filters = filters.map((filter) => ({
      filter,
      parameters: new ParameterSet(`filter ${filter.name}`, filter.config),
    }));
    this.about = aboutOf(behind.about, filters);
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

  asDefinition(threads: number) {
    return this.#middleware.reduceRight(
      (plugin, middleware) => middleware(plugin),
      this.#behind.asDefinition(threads),
    );
  }

  protected pluginToRun(): Plugin {
    return this.asDefinition(this.#threads);
  }

  protected async endUnready(): Promise<void> {
    await this.#behind.end();
  }
}

function aboutOf(about: PluginAbout, filters: readonly Filter[]): PluginAbout {
  const helps = filters.map((filter) => {
    const help = helpOf(filter.config);
    return help === undefined ? undefined : `filter: ${filter.name}\n${help}`;
  });
  const texts = [about.configHelp?.trimEnd(), ...helps].filter((help) => help !== undefined);
  return texts.length === 0 ? about : { ...about, configHelp: texts.join("\n") };
}
