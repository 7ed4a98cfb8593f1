// A chain: a plugin, in C or in TypeScript, and the filters in front of it, which share its life.

import { addon } from "../addon/addon.js";
import { type Log, processLog } from "../addon/log.js";
import type { PluginAbout } from "../addon/types.js";
import { AsyncnbdError } from "../errors.js";
import type { CFilter } from "../filters/c-filter.js";
import { type FilterChoice, openFilters } from "../filters/choice.js";
import { isBuiltIn, type OpenedFilter } from "../filters/filter.js";
import type { Client } from "../plugins/export-source.js";
import { type Living, type OnCall, type ParameterValue, valuesIn } from "../plugins/life.js";
import { modelOf, PARALLEL } from "../plugins/native-chain.js";
import { openPlugin } from "../plugins/open-plugin.js";
import type { HandshakeCalls, PluginInstance } from "../plugins/plugin-instance.js";
import type { Reload } from "../plugins/reload.js";
import { isMiddleware, isNative, type Layer } from "../plugins/script/layer.js";
import type { Awaitable } from "../plugins/script/requests.js";

/** What a user chooses. */
export interface ChainSpec {
  /** A name, a path or a package. */
  readonly plugin: string;
  /** Clients meet the first. */
  readonly filters: readonly FilterChoice[];
  /** Loads a plugin in TypeScript again when its file changes. */
  readonly watch: boolean;
  /** By default the process's. */
  readonly logTo?: Log;
  /** What becomes of new versions, if it is watched. */
  readonly onReload?: (reload: Reload) => void;
}

export class Chain implements Living {
  readonly about: PluginAbout;
  readonly #plugin: PluginInstance;
  readonly #filters: readonly OpenedFilter[];
  #layers: readonly (readonly Layer[])[] = []; // of each filter, once it is configured
  readonly #loaded: CFilter[] = [];
  readonly #started: CFilter[] = []; // clients meet the first
  readonly #hold = new (addon().NativeHold)();

  private constructor(plugin: PluginInstance, filters: readonly OpenedFilter[]) {
    this.#plugin = plugin;
    this.#filters = filters;
    this.about = filters.length === 0 ? plugin.about : aboutOf(plugin.about, filters);
  }

  /** Calls nothing of the plugin, nor of its filters, but what makes them known. */
  static async open(spec: ChainSpec): Promise<Chain> {
    const { plugin, filters, watch, logTo: log = processLog, onReload } = spec;
    return Chain.of(
      await openPlugin(plugin, { watch, log, ...(onReload && { onReload }) }),
      filters,
      log,
    );
  }

  /** Of a plugin that is open. Where a filter cannot be, the plugin ends. */
  static async of(
    plugin: PluginInstance,
    filters: readonly FilterChoice[],
    log: Log = processLog,
  ): Promise<Chain> {
    try {
      return new Chain(plugin, await openFilters(filters, log));
    } catch (error) {
      await Promise.resolve(plugin.unload()).catch(() => {}); // the first failure is the one to tell
      throw error;
    }
  }

  /** Of the plugin, or of a filter. False: it has no such flag; undefined: none has this name. */
  setDebugFlag(name: string, flag: string, value: number): boolean | undefined {
    const library = this.#libraries.find(({ about }) => about.name === name);
    if (library !== undefined) return library.setDebugFlag(flag, value);
    if (name === this.about.name) return this.#plugin.setDebugFlag(flag, value);
    const one = this.#filters.find(({ filter }) => filter.name === name);
    return one && (isBuiltIn(one) ? addon().setFilterDebugFlag(name, flag, value) : false);
  }

  // ---- its life ------------------------------------------------------------------------------

  async load(): Promise<void> {
    await this.#plugin.load();
    for (const library of this.#libraries.reverse()) {
      library.load();
      this.#loaded.push(library);
    }
  }

  /** The first filter that has such a parameter gets it, else the plugin. */
  config(key: string, value: ParameterValue): void {
    this.#configFrom(0, key, value);
  }

  /** nbdkit's filters know for themselves what is theirs, and may pass on something else. */
  #configFrom(index: number, key: string, value: ParameterValue): void {
    const filter = this.#filters[index];
    if (filter === undefined) {
      const others = this.#filters.flatMap(({ parameters }) => parameters.names);
      this.#plugin.config(key, value, others);
    } else if (filter.library !== undefined) {
      for (const one of valuesIn(value))
        filter.library.config(key, String(one), (k, v) => this.#configFrom(index + 1, k, v));
    } else if (filter.parameters.has(key)) {
      filter.parameters.set(key, value);
    } else {
      this.#configFrom(index + 1, key, value);
    }
  }

  async configComplete(): Promise<void> {
    const layers: (readonly Layer[])[] = [];
    for (const filter of this.#filters) layers.push(await layersOf(filter));
    this.#layers = layers;
    await this.#completeFrom(0);
  }

  /** A plugin in TypeScript takes its time, but begins where a filter asks for it. */
  #completeFrom(index: number): Awaitable<void> {
    const filter = this.#filters[index];
    if (filter === undefined) return this.#plugin.configComplete();
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
    this.#plugin.settleThreadModel();
    let least = this.#plugin.callModel;
    for (const library of this.#libraries.reverse()) {
      library.settleThreadModel(least);
      least = Math.min(least, library.threadModel);
    }
  }

  async getReady(): Promise<void> {
    await this.#plugin.getReady(this.#layers.flat(), this.#hold);
    const least = this.#leastModel;
    for (const library of this.#libraries.reverse()) library.getReady(least);
  }

  async afterFork(): Promise<void> {
    await this.#plugin.afterFork();
    try {
      for (const library of this.#libraries.reverse()) {
        library.afterFork();
        this.#started.unshift(library);
      }
    } catch (error) {
      await this.cleanup(() => {});
      throw error;
    }
  }

  /** After the last client of the server's. */
  closeForAll(): Promise<void> {
    return this.#plugin.closeForAll();
  }

  /** Whether the process stays alive for calls that are no client's, as it does at first. */
  setRef(isRef: boolean): void {
    this.#hold.setRef(isRef);
  }

  async cleanup(onCall: OnCall): Promise<void> {
    for (const library of this.#started) {
      onCall(`${library.about.name}: cleanup`);
      library.cleanup();
    }
    onCall(`${this.about.name}: cleanup`);
    await this.#plugin.cleanup(onCall);
  }

  async unload(onCall: OnCall): Promise<void> {
    onCall(`${this.about.name}: unload`);
    await this.#plugin.unload();
    const unused = this.#libraries.filter((library) => !this.#loaded.includes(library));
    for (const library of [...this.#loaded, ...new Set(unused)]) {
      onCall(`${library.about.name}: unload`);
      library.unload();
    }
  }

  // ---- what it is ----------------------------------------------------------------------------

  /** --dump-plugin: lines of KEY=VALUE. */
  async dump(write: (lines: string) => void): Promise<void> {
    await this.#plugin.dump(write, this.#leastModel);
  }

  /** Clients meet the first: what it is, and where it comes from. */
  get parts(): readonly string[] {
    const filters = this.#filters.map(({ filter, origin }, i) => {
      const native = this.#layers[i]?.every(isNative) ? "native, " : "";
      return `filter ${filter.name} (${native}${origin})`;
    });
    const { name, path } = this.#plugin.about;
    return [...filters, `plugin ${name} (${path})`];
  }

  /** Only one of its exports is open at a time: clients wait for each other. */
  get serializesConnections(): boolean {
    return this.#plugin.serializesConnections || this.#filterModels.includes(0);
  }

  /** The plugin or a filter wants the server to stop, and may have said so before there was one. */
  get isShutdownRequested(): boolean {
    return (
      (this.#plugin.isShutdownRequested ?? false) ||
      this.#libraries.some((library) => library.isShutdownRequested)
    );
  }

  /** Requests that were given up and to which the plugin may still reply: do not end it. */
  get unansweredRequests(): number {
    return this.#plugin.unansweredRequests;
  }

  /** What the client's handshake asks, from now on until it goes to another chain. */
  callsFor(client: Client): HandshakeCalls {
    return this.#plugin.callsFor(client);
  }

  /** NBDKIT_THREAD_MODEL_*. */
  get #leastModel(): number {
    return Math.min(this.#plugin.callModel, ...this.#filterModels);
  }

  /** Before all is configured, as for --dump-plugin, not of filters that do not tell theirs. */
  get #filterModels(): number[] {
    const told = this.#filters.map(
      ({ filter, library, parameters }) =>
        library?.threadModel ?? filter.threadModel?.(parameters.known()) ?? PARALLEL,
    );
    return [...told, ...this.#layers.flat().filter(isNative).map(modelOf)];
  }

  /** Of nbdkit's filters; clients meet the first. */
  get #libraries(): CFilter[] {
    return this.#filters.flatMap(({ library }) => library ?? []);
  }
}

async function layersOf({ filter, parameters }: OpenedFilter): Promise<readonly Layer[]> {
  const made: unknown = filter.create(await parameters.complete());
  if (!isMiddleware(made))
    throw new AsyncnbdError(
      "FILTER_INVALID",
      `filter ${filter.name}: create returned no middleware: use defineMiddleware`,
    );
  return made.layers;
}

function aboutOf(about: PluginAbout, opened: readonly OpenedFilter[]): PluginAbout {
  const texts = [about.configHelp?.trimEnd(), ...opened.map(({ help }) => help)];
  const configHelp = texts.filter((help) => help !== undefined).join("\n");
  const filters = opened.map(({ filter, origin, version, library }) => {
    return library?.about ?? { name: filter.name, path: origin, ...(version && { version }) };
  });
  return { ...about, filters, ...(configHelp !== "" && { configHelp }) };
}
