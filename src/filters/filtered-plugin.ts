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
import type { Awaitable } from "../plugins/script/requests.js";
import type { CFilter } from "./c-filter.js";
import type { Filter, OpenedFilter } from "./filter.js";

export class FilteredPlugin implements PluginInstance {
  readonly about: PluginAbout;
  readonly #behind: PluginInstance;
  readonly #filters: readonly (OpenedFilter & { parameters: ParameterSet })[];
  #layers: readonly (readonly Layer[])[] = []; // of each filter, once it is configured
  readonly #loaded: CFilter[] = [];

  /** The first filter is the one that clients meet. */
  constructor(behind: PluginInstance, filters: readonly OpenedFilter[]) {
    this.#behind = behind;
    this.#filters = filters.map(({ filter, origin, library }) => ({
      filter,
      origin,
      ...(library !== undefined && { library }),
      parameters: new ParameterSet(`filter ${filter.name}`, filter.config),
    }));
    this.about = aboutOf(behind.about, filters);
  }

  get serializesConnections(): boolean {
    return this.#behind.serializesConnections || this.#libraries.some((l) => l.threadModel === 0);
  }

  /** The least of all. */
  get callModel(): number {
    const models = this.#libraries.map((library) => library.threadModel);
    return Math.min(this.#behind.callModel, ...models);
  }

  /** Of nbdkit's filters; clients meet the first. */
  get #libraries(): CFilter[] {
    return this.#filters.flatMap(({ library }) => library ?? []);
  }

  setFilterDebugFlag(name: string, flag: string, value: number): boolean | undefined {
    const library = this.#libraries.find(({ about }) => about.name === name);
    return library?.setDebugFlag(flag, value);
  }

  get isShutdownRequested(): boolean {
    return (
      this.#behind.isShutdownRequested ||
      this.#libraries.some((library) => library.isShutdownRequested)
    );
  }

  get unansweredRequests(): number {
    return this.#behind.unansweredRequests;
  }

  setDebugFlag(flag: string, value: number): boolean {
    return this.#behind.setDebugFlag(flag, value);
  }

  async load(): Promise<void> {
    await this.#behind.load();
    for (const library of this.#libraries.reverse()) {
      library.load();
      this.#loaded.push(library);
    }
  }

  /** The first filter that has such a parameter gets it, else the plugin. */
  config(key: string, value: string | number | boolean): void {
    this.#configFrom(0, key, value);
  }

  /** nbdkit's filters know for themselves what is theirs, and may pass on something else. */
  #configFrom(index: number, key: string, value: string | number | boolean): void {
    const filter = this.#filters[index];
    if (filter === undefined) {
      const others = this.#filters.flatMap(({ parameters }) => parameters.names);
      this.#behind.config(key, value, others);
    } else if (filter.library !== undefined) {
      filter.library.config(key, String(value), (k, v) => this.#configFrom(index + 1, k, v));
    } else if (filter.parameters.has(key)) {
      filter.parameters.set(key, value);
    } else {
      this.#configFrom(index + 1, key, value);
    }
  }

  async configComplete(): Promise<void> {
    this.#layers = this.#filters.map(({ filter, parameters }) => layersOf(filter, parameters));
    await this.#completeFrom(0);
  }

  /** A plugin in TypeScript takes its time, but begins where a filter asks for it. */
  #completeFrom(index: number): Awaitable<void> {
    const filter = this.#filters[index];
    if (filter === undefined) return this.#behind.configComplete();
    if (filter.library === undefined) return this.#completeFrom(index + 1);
    let behind: Awaitable<void> | undefined;
    try {
      filter.library.configComplete(() => {
        behind = this.#completeFrom(index + 1);
      });
    } catch (error) {
      Promise.resolve(behind).catch(() => {}); // the filter's failure is the one to be told
      throw error;
    }
    return behind;
  }

  settleThreadModel(): void {
    this.#behind.settleThreadModel();
    let least = this.#behind.callModel;
    for (const library of this.#libraries.reverse()) {
      library.settleThreadModel(least);
      least = Math.min(least, library.threadModel);
    }
  }

  async dump(write: (lines: string) => void): Promise<void> {
    await this.#behind.dump(write, this.callModel);
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
    const { callModel } = this;
    for (const library of this.#libraries.reverse()) library.getReady(callModel);
  }

  async afterFork(): Promise<void> {
    await this.#behind.afterFork();
    for (const library of this.#libraries.reverse()) library.afterFork();
  }

  newSession(server: NativeServer, stream: ClientStream): NewSession {
    return this.#behind.newSession(server, stream);
  }

  async cleanup(): Promise<void> {
    for (const library of this.#libraries) library.cleanup();
    await this.#behind.cleanup();
  }

  async unload(): Promise<void> {
    await this.#behind.unload();
    for (const library of this.#loaded) library.unload();
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

/** nbdkit's say what they are even if they have no parameters. */
function helpOfFilter({ filter, library }: OpenedFilter): string | undefined {
  if (library === undefined) {
    const help = helpOf(filter.config);
    return help === undefined ? undefined : `filter: ${filter.name}\n${help}`;
  }
  const { name, path, longname, description, configHelp } = library.about;
  const title = longname === undefined ? name : `${name} (${longname})`;
  const lines = [`filter: ${title}`, `(${path})`, description?.trimEnd(), configHelp?.trimEnd()];
  return lines.filter((line) => line !== undefined).join("\n");
}

function aboutOf(about: PluginAbout, opened: readonly OpenedFilter[]): PluginAbout {
  const texts = [about.configHelp?.trimEnd(), ...opened.map(helpOfFilter)];
  const configHelp = texts.filter((help) => help !== undefined).join("\n");
  const filters = opened.map(({ filter, origin, version, library }) => {
    return library?.about ?? { name: filter.name, path: origin, ...(version && { version }) };
  });
  return { ...about, filters, ...(configHelp !== "" && { configHelp }) };
}
