// Serves a plugin in TypeScript whose parameters are settled: from getReady to its end.

import { addon } from "../../addon/addon.js";
import type { NativeServer } from "../../addon/types.js";
import { AsyncnbdError } from "../../errors.js";
import { NativeChain } from "../native-chain.js";
import { type NativeRun, nativeRunOf } from "../native-run.js";
import type { ClientStream, NewSession } from "../plugin-instance.js";
import { type BridgeOptions, ScriptBridge } from "./bridge.js";
import type { Plugin } from "./definition.js";
import { describeThrown, isExpected } from "./errno.js";
import { ScriptHandshakeCalls } from "./handshake-calls.js";
import { serialized } from "./thread-model.js";

const pendingNames = new Set<string>();

/** Callbacks that have not settled yet, with their plugins' names. */
export const pendingCallbacks = (): readonly string[] => [...pendingNames];

/** Runs a callback of a plugin; its failure becomes one of the server's. */
export async function callPlugin(
  plugin: Plugin,
  what: string,
  callback: () => unknown,
): Promise<void> {
  const name = `${plugin.name}: ${what}`;
  pendingNames.add(name);
  try {
    await callback();
  } catch (error) {
    if (error instanceof AsyncnbdError) throw error;
    const where = isExpected(error) ? plugin.name : name;
    throw new AsyncnbdError("PLUGIN", `${where}: ${describeThrown(error)}`);
  } finally {
    pendingNames.delete(name);
  }
}

class ScriptRunner {
  readonly #plugin: Plugin;
  readonly #bridge: ScriptBridge;
  readonly #chain: NativeChain | undefined;
  #started = false;

  constructor({ filters, plugin }: NativeRun, options: BridgeOptions) {
    this.#plugin = serialized(plugin);
    this.#bridge = new ScriptBridge(options);
    this.#chain = filters.length > 0 ? new NativeChain(filters) : undefined;
  }

  async getReady(): Promise<void> {
    this.#chain?.make();
    await callPlugin(this.#plugin, "getReady", () => this.#plugin.getReady?.());
  }

  async afterFork(): Promise<void> {
    await callPlugin(this.#plugin, "afterFork", () => this.#plugin.afterFork?.());
    this.#started = true;
  }

  newSession(server: NativeServer, stream: ClientStream) {
    const chain = this.#chain;
    const native = new (addon().NativeSession)(server, this.#plugin.name, {
      ...stream,
      ...(chain !== undefined && { chain: chain.facts.number }),
    });
    const client = {
      readonly: stream.readonly,
      get tls() {
        return native.isTls;
      },
    };
    const calls = new ScriptHandshakeCalls(this.#plugin, this.#bridge, native, client, chain);
    return { native, calls };
  }

  async end(): Promise<void> {
    const plugin = this.#plugin;
    this.#chain?.drop();
    if (this.#started) await callPlugin(plugin, "cleanup", () => plugin.cleanup?.());
    await callPlugin(plugin, "unload", () => plugin.unload?.());
  }
}

/** Common to ScriptPlugin and the plugins in front of one: runs the plugin once it is ready. */
export abstract class RunnablePlugin {
  #runner: ScriptRunner | undefined;

  /** As clients are to see it. */
  protected abstract pluginToRun(): Plugin;
  /** Instead of the runner's end, if it never came so far. */
  protected abstract endUnready(): Promise<void>;

  async getReady(): Promise<void> {
    const checkBuffers = process.env.ASYNCNBD_CHECK_BUFFERS === "1";
    this.#runner = new ScriptRunner(nativeRunOf(this.pluginToRun()), { checkBuffers });
    await this.#runner.getReady();
  }

  async afterFork(): Promise<void> {
    await this.#runner?.afterFork();
  }

  newSession(server: NativeServer, stream: ClientStream): NewSession {
    return (this.#runner as ScriptRunner).newSession(server, stream);
  }

  async end(): Promise<void> {
    await (this.#runner === undefined ? this.endUnready() : this.#runner.end());
  }
}
