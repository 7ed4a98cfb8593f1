// A loaded C plugin, whose failures are exceptions.

import { addon } from "../addon/addon.js";
import type { Failure, NativePlugin, NativeServer, PluginAbout } from "../addon/types.js";
import { didYouMean } from "../config/nearest.js";
import { AsyncnbdError } from "../errors.js";
import { definitionOf } from "./c-definition.js";
import type { ClientStream, PluginInstance } from "./plugin-instance.js";
import type { Plugin } from "./script/definition.js";
import { refuseIfNoPlugin } from "./unknown-plugin.js";

function check(failure: Failure): void {
  if (failure !== undefined)
    throw new AsyncnbdError("PLUGIN", failure.words, { isLogged: failure.isLogged });
}

/** The keys of parameters that a plugin's help shows as KEY=VALUE or [KEY=]VALUE. */
const helpKeys = (help = ""): string[] =>
  [...help.matchAll(/(?<![\w=])[A-Za-z][\w.-]*(?==)/g)].map(([key]) => key);

export class CPlugin implements PluginInstance {
  readonly #native: NativePlugin;
  readonly about: PluginAbout;
  #started = false;

  private constructor(native: NativePlugin) {
    this.#native = native;
    this.about = native.about;
  }

  /**
   * Opens the shared object that `name` stands for; calls none of the plugin's functions but its
   * registration.
   */
  static open(name: string, path: string): CPlugin {
    refuseIfNoPlugin(name, path);
    const native = new (addon().NativePlugin)(path);
    check(native.open());
    return new CPlugin(native);
  }

  setDebugFlag(flag: string, value: number): boolean {
    return this.#native.setDebugFlag(flag, value);
  }

  load(): void {
    this.#native.load();
  }

  config(key: string, value: string | number | boolean, others: readonly string[] = []): void {
    const failure = this.#native.config(key, String(value));
    if (failure === undefined) return;
    const { configHelp, magicConfigKey = "" } = this.about;
    const known = [...helpKeys(configHelp), magicConfigKey, ...others];
    const hint = known.includes(key) ? "" : didYouMean(key, known);
    if (failure.isLogged && hint !== "") addon().logError(`there is no parameter "${key}"${hint}`);
    check({ ...failure, words: failure.words + hint });
  }

  configComplete(): void {
    check(this.#native.configComplete());
  }

  settleThreadModel(): void {
    check(this.#native.settleThreadModel());
  }

  dump(write: (lines: string) => void): void {
    this.#native.dump(write);
  }

  get serializesConnections(): boolean {
    return this.#native.threadModel === 0;
  }

  getReady(): void {
    check(this.#native.getReady());
  }

  afterFork(): void {
    check(this.#native.afterFork());
    this.#started = true;
  }

  /** The plugin for middleware. `threads`: calls in progress at once on a connection. */
  asDefinition(threads: number): Plugin {
    return definitionOf(this, this.#native, threads);
  }

  /** `chain`: in front of it, by its number. */
  newSession(server: NativeServer, stream: ClientStream, chain?: number) {
    const native = new (addon().NativeSession)(server, this.#native, {
      ...stream,
      ...(chain !== undefined && { chain }),
    });
    return { native, calls: native };
  }

  get isShutdownRequested(): boolean {
    return this.#native.isShutdownRequested;
  }

  get unansweredRequests(): number {
    return this.#native.unansweredRequests;
  }

  async end(): Promise<void> {
    this.#native.end(this.#started);
  }
}
