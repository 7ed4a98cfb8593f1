// One version of a plugin that is watched, with what its module has put in front of it, and the exports
// that clients have open there.

import type { Log } from "../../addon/log.js";
import type { NativeHold } from "../../addon/types.js";
import type { Client } from "../export-source.js";
import { Life, type Living, type OnCall } from "../life.js";
import { Chain } from "./chain.js";
import type { OpenExport } from "./layer.js";
import type { OpenInfo } from "./requests.js";
import type { ScriptPlugin } from "./script-plugin.js";
import { takingTurns } from "./turns.js";

/** One reading of the file. */
export class Version implements Living {
  /** Its own; a first version's is another's to lead, until that has started it. */
  life = new Life(this);
  readonly script: ScriptPlugin;
  /** What the module has put in front of its plugin is made anew with it. */
  readonly #chain: Chain;
  readonly #hold: () => NativeHold | undefined;
  openExports = 0;
  /** Hears of the calls at its start. */
  onCall: OnCall = () => {};

  constructor(script: ScriptPlugin, log: Log, hold: () => NativeHold | undefined) {
    this.script = script;
    this.#hold = hold;
    const hasSessions = false;
    this.#chain = new Chain(script.layers, script.source, { hasSessions, log });
  }

  async load(): Promise<void> {
    this.onCall(this.#call("load"));
    await this.script.load();
  }

  config(...parameter: Parameters<ScriptPlugin["config"]>): void {
    this.script.config(...parameter);
  }

  async configComplete(): Promise<void> {
    this.onCall(this.#call("configComplete"));
    await this.script.configComplete();
  }

  settleThreadModel(): void {
    this.script.settleThreadModel();
  }

  async getReady(): Promise<void> {
    this.onCall(this.#call("getReady"));
    await this.script.readyPlugin();
    await this.#chain.getReady(this.#hold());
  }

  open(info: OpenInfo, client: Client): Promise<OpenExport> {
    return this.#chain.open(info, client);
  }

  async afterFork(): Promise<void> {
    this.onCall(this.#call("afterFork"));
    await this.script.afterFork();
  }

  async cleanup(onCall: OnCall): Promise<void> {
    onCall(this.#call("cleanup"));
    try {
      await this.#chain.cleanup();
    } finally {
      await this.script.cleanup();
    }
  }

  async unload(onCall: OnCall): Promise<void> {
    onCall(this.#call("unload"));
    try {
      await this.#chain.cleanup(); // where there was none
    } finally {
      await this.script.unload();
    }
  }

  #call(callback: string): string {
    return `${this.script.about.name}: ${callback}`;
  }
}

/** An export that one version has open. */
export class Opened {
  readonly version: Version;
  readonly export: OpenExport;
  #requests = 0;
  #onIdle: (() => void) | undefined;
  #isGivenUp = false;

  constructor(version: Version, opened: OpenExport) {
    this.version = version;
    this.export = takingTurns(opened, version.script.source.requestTimeoutMs);
    version.openExports++;
  }

  async request<T>(call: (opened: OpenExport) => T): Promise<Awaited<T>> {
    this.#requests++;
    try {
      return await call(this.export);
    } finally {
      if (--this.#requests === 0) this.#onIdle?.();
    }
  }

  /** Nobody waits any more for requests that have not been answered. */
  giveUp(): void {
    this.#isGivenUp = true;
    this.#onIdle?.();
  }

  /** When its last request has been answered, or given up. */
  async close(): Promise<void> {
    if (this.#requests > 0 && !this.#isGivenUp)
      await new Promise<void>((resolve) => {
        this.#onIdle = resolve;
      });
    try {
      await this.export.close();
    } finally {
      this.version.openExports--;
    }
  }
}
