// A loaded C plugin, whose failures are exceptions.

import { addon } from "../addon/addon.js";
import { leaveCallsIf } from "../addon/exit.js";
import { throwIfFailed } from "../addon/failure.js";
import { type Log, processLog } from "../addon/log.js";
import type { Failure, NativeHold, NativePlugin, PluginAbout } from "../addon/types.js";
import { didYouMean } from "../config/nearest.js";
import type { Client } from "./export-source.js";
import { type ParameterValue, type SingleValue, valuesIn } from "./life.js";
import { NativeChain } from "./native-chain.js";
import type { HandshakeCalls, PluginInstance } from "./plugin-instance.js";
import { isNative, type Layer } from "./script/layer.js";
import type { ScriptRunner } from "./script/runner.js";
import { refuseIfNoPlugin } from "./unknown-plugin.js";

const check = (failure: Failure): void => throwIfFailed(failure, "PLUGIN_FAILED");

/** The keys of parameters that a plugin's help shows as KEY=VALUE or [KEY=]VALUE. */
const helpKeys = (help = ""): string[] =>
  [...help.matchAll(/(?<![\w=])[A-Za-z][\w.-]*(?==)/g)].map(([key]) => key);

export class CPlugin implements PluginInstance {
  readonly #native: NativePlugin;
  readonly #log: Log;
  readonly about: PluginAbout;
  #chain: NativeChain | undefined; // in front, if all of it is native
  #runner: ScriptRunner | undefined; // of what is in front, if not
  #hold: NativeHold | undefined;

  private constructor(native: NativePlugin, log: Log) {
    this.#native = native;
    this.#log = log;
    this.about = native.about;
  }

  /**
   * Opens the shared object that `name` stands for; calls none of the plugin's functions but its
   * registration.
   */
  static open(name: string, path: string, log: Log = processLog): CPlugin {
    refuseIfNoPlugin(name, path);
    const native = new (addon().NativePlugin)(path);
    throwIfFailed(
      log.during(() => native.open()),
      "LIBRARY_UNLOADABLE",
    );
    return new CPlugin(native, log);
  }

  setDebugFlag(flag: string, value: number): boolean {
    return this.#native.setDebugFlag(flag, value);
  }

  load(): void {
    this.#log.during(() => this.#native.load());
  }

  config(key: string, value: ParameterValue, others: readonly string[] = []): void {
    for (const one of valuesIn(value)) this.#configOne(key, one, others);
  }

  #configOne(key: string, value: SingleValue, others: readonly string[]): void {
    const failure = this.#log.during(() => this.#native.config(key, String(value)));
    if (failure === undefined) return;
    const { configHelp, magicConfigKey = "" } = this.about;
    const known = [...helpKeys(configHelp), magicConfigKey, ...others];
    const hint = known.includes(key) ? "" : didYouMean(key, known);
    if (failure.isLogged && hint !== "") this.#log.error(`there is no parameter "${key}"${hint}`);
    check({ ...failure, words: failure.words + hint });
  }

  configComplete(): void {
    check(this.#log.during(() => this.#native.configComplete()));
  }

  settleThreadModel(): void {
    check(this.#log.during(() => this.#native.settleThreadModel()));
  }

  dump(write: (lines: string) => void, leastModel = this.callModel): void {
    this.#native.dump(write, leastModel);
  }

  get callModel(): number {
    return this.#native.threadModel;
  }

  get serializesConnections(): boolean {
    return this.callModel === 0;
  }

  /** Where all filters are native, no request comes to JavaScript. */
  async getReady(filters: readonly Layer[], hold: NativeHold): Promise<void> {
    this.#hold = hold;
    const onReturn = leaveCallsIf(() => true);
    try {
      check(await this.#native.getReady(this.#log.native, hold));
    } finally {
      onReturn();
    }
    if (filters.every(isNative)) {
      if (filters.length > 0) this.#chain = new NativeChain(filters, this.#log);
      await this.#chain?.getReady(this.callModel, hold);
    } else {
      this.#runner = await this.#runnerBehind(filters);
      await this.#runner.getReady(hold);
    }
  }

  async #runnerBehind(filters: readonly Layer[]): Promise<ScriptRunner> {
    const [{ CSource }, { ScriptRunner }] = await Promise.all([
      import("./c-source.js"), // only where a C plugin needs it
      import("./script/runner.js"),
    ]);
    return new ScriptRunner(new CSource(this.#native), filters, this.#log);
  }

  afterFork(): void {
    check(this.#log.during(() => this.#native.afterFork()));
  }

  callsFor(client: Client): HandshakeCalls {
    if (this.#runner !== undefined) return this.#runner.callsFor(client);
    client.session.enter(this.#native, this.#chain?.facts.number);
    return client.session;
  }

  get isShutdownRequested(): boolean {
    const inFront = this.#chain ?? this.#runner;
    return this.#native.isShutdownRequested || (inFront?.isShutdownRequested ?? false);
  }

  get unansweredRequests(): number {
    return this.#native.unansweredRequests;
  }

  async cleanup(): Promise<void> {
    try {
      await this.#dropLayers();
    } finally {
      this.#log.during(() => this.#native.cleanup());
    }
  }

  async unload(): Promise<void> {
    try {
      await this.#dropLayers();
    } finally {
      this.#log.during(() => this.#native.unload());
    }
  }

  async closeForAll(): Promise<void> {
    await this.#chain?.closeForAll();
    await this.#runner?.closeForAll();
    await this.#native.drained(this.#log.native, this.#hold);
  }

  /** Once, whichever comes first. */
  async #dropLayers(): Promise<void> {
    await this.#chain?.drop();
    await this.#runner?.end();
  }
}
