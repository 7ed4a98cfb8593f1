// A plugin in TypeScript as a server drives it, from its parameters to its end.

import { addon } from "../../addon/load.js";
import type { NativeServer, PluginAbout } from "../../addon/types.js";
import { AsyncnbdError } from "../../errors.js";
import type { ClientStream, ServedPlugin } from "../served-plugin.js";
import { type BridgeOptions, ScriptBridge } from "./bridge.js";
import type { Plugin, PluginContext, PluginLog, ThreadModelName } from "./definition.js";
import { describeThrown } from "./errno.js";
import { loadScript } from "./load.js";
import { type ConfigSpec, helpOf, magicKeyOf, ParameterSet } from "./parameters.js";
import { ScriptSession } from "./session.js";
import { serialized } from "./thread-model.js";

const NAME = /^[a-zA-Z][a-zA-Z0-9-]*$/;

const MODELS: readonly ThreadModelName[] = [
  "serialize_connections",
  "serialize_all_requests",
  "serialize_requests",
  "parallel",
];

export class ScriptPlugin implements ServedPlugin {
  readonly about: PluginAbout;
  readonly unansweredRequests = 0;
  readonly #plugin: Plugin;
  readonly #bridge: ScriptBridge;
  readonly #parameters: ParameterSet;
  #started = false;

  /** `path`: where the plugin is, for messages. */
  constructor(definition: Plugin, path: string, options: BridgeOptions = {}) {
    check(definition, path);
    this.about = aboutOf(definition, path);
    this.#parameters = new ParameterSet(definition.name, definition.config);
    this.#plugin = serialized(this.#instanceOf(definition));
    this.#bridge = new ScriptBridge(options);
  }

  static async open(path: string): Promise<ScriptPlugin> {
    const checkBuffers = process.env.ASYNCNBD_CHECK_BUFFERS === "1";
    return new ScriptPlugin(await loadScript(path), path, { checkBuffers });
  }

  get serializesConnections(): boolean {
    return this.#plugin.threadModel === "serialize_connections";
  }

  setDebugFlag(): boolean {
    return false;
  }

  async load(): Promise<void> {
    await this.#call("load", () => this.#plugin.load?.());
  }

  config(key: string, value: unknown): void {
    this.#parameters.set(key, value);
  }

  async configComplete(): Promise<void> {
    this.#parameters.values();
    await this.#call("configComplete", () => this.#plugin.configComplete?.());
  }

  settleThreadModel(): void {}

  async dump(write: (lines: string) => void): Promise<void> {
    const { path, name, longname, version, magicConfigKey } = this.about;
    const facts: Record<string, unknown> = { path, name, version };
    if (magicConfigKey !== undefined) facts.magic_config_key = magicConfigKey;
    facts.language = "javascript";
    facts.thread_model = facts.max_thread_model = this.#plugin.threadModel ?? "parallel";
    if (longname !== undefined) facts.longname = longname;
    for (const [key, value] of Object.entries(await this.#dumpPlugin())) facts[key] = value;
    const lines = Object.entries(facts).filter(([, value]) => value !== undefined);
    write(lines.map(([key, value]) => `${key}=${value}\n`).join(""));
    const help = helpOf(this.#plugin.config);
    if (help !== undefined) write(help.replace(/^/gm, "# ").concat("\n"));
  }

  async getReady(): Promise<void> {
    await this.#call("getReady", () => this.#plugin.getReady?.());
  }

  async afterFork(): Promise<void> {
    await this.#call("afterFork", () => this.#plugin.afterFork?.());
    this.#started = true;
  }

  newSession(server: NativeServer, stream: ClientStream) {
    const native = new (addon().NativeSession)(server, this.#plugin.name, stream);
    const client = { readonly: stream.readonly, tls: false };
    return { native, calls: new ScriptSession(this.#plugin, this.#bridge, native, client) };
  }

  async end(): Promise<void> {
    if (this.#started) await this.#call("cleanup", () => this.#plugin.cleanup?.());
    await this.#call("unload", () => this.#plugin.unload?.());
  }

  async #dumpPlugin(): Promise<Readonly<Record<string, unknown>>> {
    return (await this.#plugin.dumpPlugin?.()) ?? {};
  }

  /** An object of the definition's with `this.config` and `this.log`. */
  #instanceOf(definition: Plugin): Plugin {
    const parameters = this.#parameters;
    const log = logOf(definition.name);
    const context: PropertyDescriptorMap & ThisType<PluginContext<ConfigSpec>> = {
      // The declaration is the server's affair; callbacks see the values.
      config: { get: () => parameters.values(false), enumerable: true },
      log: { value: log, enumerable: true },
    };
    return Object.create(definition, context) as Plugin;
  }

  async #call(what: string, callback: () => unknown): Promise<void> {
    try {
      await callback();
    } catch (error) {
      throw new AsyncnbdError("PLUGIN", `${this.about.name}: ${what}: ${describeThrown(error)}`);
    }
  }
}

function check(definition: Plugin, path: string): void {
  if (!NAME.test(definition.name))
    throw new AsyncnbdError(
      "PLUGIN",
      `${path}: "${definition.name}" is no name for a plugin: use letters, digits and dashes`,
    );
  const { threadModel } = definition;
  if (threadModel !== undefined && !MODELS.includes(threadModel))
    throw new AsyncnbdError(
      "PLUGIN",
      `${path}: there is no thread model "${threadModel}"; use ${MODELS.join(", ")}`,
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

function logOf(name: string): PluginLog {
  return {
    error: (text) => addon().logError(`${name}: ${text}`),
    warn: (text) => addon().logWarning(`${name}: ${text}`),
    debug: (text) => addon().logDebug(`${name}: ${text}`),
  };
}
