// A plugin, in C or in TypeScript, with filters in front of it.

import type { NativeServer, PluginAbout } from "../addon/types.js";
import type { Middleware } from "../middleware/wrap.js";
import { helpOf, ParameterSet } from "../plugins/script/parameters.js";
import { bridgeOptions } from "../plugins/script/plugin.js";
import { ScriptRunner } from "../plugins/script/runner.js";
import type { ClientStream, ServedPlugin } from "../plugins/served-plugin.js";
import type { Filter } from "./filter.js";

export class FilteredPlugin implements ServedPlugin {
  readonly about: PluginAbout;
  readonly #behind: ServedPlugin;
  readonly #filters: readonly { filter: Filter; parameters: ParameterSet }[];
  readonly #threads: number;
  #middleware: readonly Middleware[] = [];
  #runner: ScriptRunner | undefined;

  /** The first filter is the one that clients meet. `threads`: calls of a C plugin at once. */
  constructor(behind: ServedPlugin, filters: readonly Filter[], threads: number) {
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
    (owner?.parameters ?? { set: (k, v) => this.#behind.config(k, v as string) }).set(key, value);
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

  async getReady(): Promise<void> {
    this.#runner = new ScriptRunner(this.asDefinition(this.#threads), bridgeOptions());
    await this.#runner.getReady();
  }

  async afterFork(): Promise<void> {
    await this.#runner?.afterFork();
  }

  newSession(server: NativeServer, stream: ClientStream) {
    return (this.#runner as ScriptRunner).newSession(server, stream);
  }

  async end(): Promise<void> {
    await (this.#runner ?? this.#behind).end();
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
