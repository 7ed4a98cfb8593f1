// A TypeScript plugin as a PluginInstance, from its parameters to its end.

import { type Log, processLog } from "../../addon/log.js";
import type { NativeHold, PluginAbout } from "../../addon/types.js";
import { AsyncnbdError } from "../../errors.js";
import type { Client, ExportSource } from "../export-source.js";
import { modelOf } from "../native-chain.js";
import type { HandshakeCalls, PluginInstance } from "../plugin-instance.js";
import type { ConfigSpec } from "./config-spec.js";
import { checkContexts } from "./contexts.js";
import type { Plugin, PluginContext, PluginLog, ThreadModelName } from "./definition.js";
import { definitionFaults } from "./definition-keys.js";
import { asOneMessage } from "./errno.js";
import { isMiddleware, isNative, type Layer } from "./layer.js";
import { helpOf, magicKeyOf, ParameterSet } from "./parameters.js";
import { callPlugin, ScriptRunner } from "./runner.js";
import { ScriptSource, THREAD_MODELS } from "./script-source.js";

const NAME = /^[a-zA-Z][a-zA-Z0-9-]*$/;

export class ScriptPlugin implements PluginInstance {
  readonly about: PluginAbout;
  readonly unansweredRequests = 0;
  /** In front of it, put there by the module itself: clients meet the first. */
  readonly layers: readonly Layer[];
  readonly source: ExportSource;
  readonly #log: Log;
  readonly #plugin: Plugin;
  readonly #parameters: ParameterSet;
  #values: Readonly<Record<string, unknown>> | undefined;
  #runner: ScriptRunner | undefined;

  /** `path`: where the plugin is, for messages. */
  constructor(definition: Plugin, path: string, log: Log = processLog) {
    this.#log = log;
    check(definition, path);
    checkContexts(definition.metaContexts, path);
    this.about = aboutOf(definition, path);
    this.#parameters = new ParameterSet(`plugin ${definition.name}`, definition.config);
    this.#plugin = this.#instanceOf(definition);
    this.layers = (definition.middleware ?? []).flatMap(({ layers }) => layers);
    this.source = new ScriptSource(this.#plugin, log);
    for (const fault of definitionFaults(definition)) log.warn(`${path}: ${fault}`);
  }

  get serializesConnections(): boolean {
    const models = this.layers.filter(isNative).map(modelOf);
    return this.#plugin.threadModel === "serialize_connections" || models.includes(0);
  }

  get isShutdownRequested(): boolean {
    return this.#runner?.isShutdownRequested ?? false;
  }

  get threadModel(): ThreadModelName | undefined {
    return this.#plugin.threadModel;
  }

  setDebugFlag(): boolean {
    return false;
  }

  async load(): Promise<void> {
    await callPlugin(this.about.name, "load", () => this.#plugin.load?.());
  }

  config(key: string, value: unknown, others?: readonly string[]): void {
    this.#parameters.set(key, value, others);
  }

  async configComplete(): Promise<void> {
    this.#values = await this.#parameters.complete();
    await callPlugin(this.about.name, "configComplete", () => this.#plugin.configComplete?.());
  }

  settleThreadModel(): void {}

  /** Plugins in TypeScript are parallel unless they say less. */
  get callModel(): number {
    return this.source.callModel;
  }

  async dump(write: (lines: string) => void, leastModel = this.callModel): Promise<void> {
    const { path, name, longname, version, magicConfigKey } = this.about;
    const facts: Record<string, unknown> = { path, name, version };
    if (magicConfigKey !== undefined) facts.magic_config_key = magicConfigKey;
    facts.language = "javascript";
    facts.max_thread_model = THREAD_MODELS[this.callModel];
    facts.thread_model = THREAD_MODELS[Math.min(leastModel, this.callModel)];
    if (longname !== undefined) facts.longname = longname;
    for (const [key, value] of Object.entries(await this.#dumpPlugin())) facts[key] = value;
    const lines = Object.entries(facts).filter(([, value]) => value !== undefined);
    write(lines.map(([key, value]) => `${key}=${value}\n`).join(""));
    const help = this.about.configHelp;
    if (help !== undefined) write(help.replace(/^/gm, "# ").concat("\n"));
  }

  async getReady(filters: readonly Layer[], hold: NativeHold): Promise<void> {
    this.#runner = new ScriptRunner(this.source, [...filters, ...this.layers], this.#log);
    await this.readyPlugin();
    await this.#runner.getReady(hold);
  }

  async afterFork(): Promise<void> {
    await callPlugin(this.about.name, "afterFork", () => this.#plugin.afterFork?.());
  }

  callsFor(client: Client): HandshakeCalls {
    return (this.#runner as ScriptRunner).callsFor(client);
  }

  async closeForAll(): Promise<void> {
    await this.#runner?.closeForAll();
  }

  async cleanup(): Promise<void> {
    try {
      await this.#runner?.end();
    } finally {
      await callPlugin(this.about.name, "cleanup", () => this.#plugin.cleanup?.());
    }
  }

  async unload(): Promise<void> {
    try {
      await this.#runner?.end(); // where there was no cleanup
    } finally {
      await callPlugin(this.about.name, "unload", () => this.#plugin.unload?.());
    }
  }

  /** Without what is in front of it. */
  async readyPlugin(): Promise<void> {
    await callPlugin(this.about.name, "getReady", () => this.#plugin.getReady?.());
  }

  async #dumpPlugin(): Promise<Readonly<Record<string, unknown>>> {
    return (await this.#plugin.dumpPlugin?.()) ?? {};
  }

  /** An object of the definition's with `this.config` and `this.log`. */
  #instanceOf(definition: Plugin): Plugin {
    const context: PropertyDescriptorMap & ThisType<PluginContext<ConfigSpec>> = {
      // The declaration is the server's affair; callbacks see the values.
      config: { get: () => this.#values ?? this.#parameters.known(), enumerable: true },
      log: { value: logUnder(definition.name, this.#log), enumerable: true },
    };
    return Object.create(definition, context) as Plugin;
  }
}

function check(definition: Plugin, path: string): void {
  const { middleware = [] } = definition;
  if (!Array.isArray(middleware) || !middleware.every(isMiddleware))
    throw new AsyncnbdError(
      "PLUGIN_INVALID",
      `${path}: middleware must be a list of defineMiddleware() results`,
    );
  if (!NAME.test(definition.name))
    throw new AsyncnbdError(
      "PLUGIN_INVALID",
      `${path}: "${definition.name}" is not a valid plugin name: use letters, digits and dashes`,
    );
  const { threadModel } = definition;
  if (threadModel !== undefined && !THREAD_MODELS.includes(threadModel))
    throw new AsyncnbdError(
      "PLUGIN_INVALID",
      `${path}: unknown thread model "${threadModel}"; use ${THREAD_MODELS.join(", ")}`,
    );
}

function aboutOf(definition: Plugin, path: string): PluginAbout {
  const { name, longname, version, description } = definition;
  const configHelp = helpOf(definition.config);
  const magicConfigKey = magicKeyOf(definition.config);
  return {
    name,
    path,
    ...(longname !== undefined && { longname }),
    ...(version !== undefined && { version }),
    ...(description !== undefined && { description }),
    ...(configHelp !== undefined && { configHelp }),
    ...(magicConfigKey !== undefined && { magicConfigKey }),
  };
}

/** Lines of this plugin's. */
function logUnder(name: string, log: Log): PluginLog {
  return {
    error: (text) => log.error(asOneMessage(`${name}: ${text}`)),
    warn: (text) => log.warn(asOneMessage(`${name}: ${text}`)),
    debug: (text) => log.debug(asOneMessage(`${name}: ${text}`)),
  };
}
