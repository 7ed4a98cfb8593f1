// A plugin, in C or in TypeScript, with filters in front of it.

import type { NativeServer, PluginAbout } from "../addon/types.js";
import { AsyncnbdError } from "../errors.js";
import {
  type ClientStream,
  type NewSession,
  type PluginInstance,
  partsOf,
} from "../plugins/plugin-instance.js";
import { isMiddleware, isNative, type Layer } from "../plugins/script/layer.js";
import { helpOf, ParameterSet } from "../plugins/script/parameters.js";
import type { Filter, OpenedFilter } from "./filter.js";

export class FilteredPlugin implements PluginInstance {
  readonly about: PluginAbout;
  readonly #behind: PluginInstance;
  readonly #filters: readonly (OpenedFilter & { parameters: ParameterSet })[];
  #layers: readonly (readonly Layer[])[] = []; // of each filter, once it is configured

  /** The first filter is the one that clients meet. */
  constructor(behind: PluginInstance, filters: readonly OpenedFilter[]) {
    this.#behind = behind;
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
    this.#layers = this.#filters.map(({ filter, parameters }) => layersOf(filter, parameters));
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
      const native = this.#layers[i]?.every(isNative) ? "native, " : "";
      return `filter ${filter.name} (${native}${origin})`;
    });
    return [...filters, ...partsOf(this.#behind)];
  }

  async getReady(filters: readonly Layer[] = []): Promise<void> {
    await this.#behind.getReady([...filters, ...this.#layers.flat()]);
  }

  async afterFork(): Promise<void> {
    await this.#behind.afterFork();
  }

  newSession(server: NativeServer, stream: ClientStream): NewSession {
    return this.#behind.newSession(server, stream);
  }

  async end(): Promise<void> {
    await this.#behind.end();
  }
}

function layersOf(filter: Filter, parameters: ParameterSet): readonly Layer[] {
  const made: unknown = filter.create(parameters.values());
  if (!isMiddleware(made))
    throw new AsyncnbdError(
      "PLUGIN",
      `filter ${filter.name}: create returned no middleware: use defineMiddleware`,
    );
  return made.layers;
}

function aboutOf(about: PluginAbout, filters: readonly Filter[]): PluginAbout {
  const helps = filters.map((filter) => {
    const help = helpOf(filter.config);
    return help === undefined ? undefined : `filter: ${filter.name}\n${help}`;
  });
  const texts = [about.configHelp?.trimEnd(), ...helps].filter((help) => help !== undefined);
  return texts.length === 0 ? about : { ...about, configHelp: texts.join("\n") };
}
