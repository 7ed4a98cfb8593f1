// A loaded C plugin, whose failures are exceptions.

import { addon } from "../addon/load.js";
import type { Failure, NativePlugin, NativeServer, PluginAbout } from "../addon/types.js";
import { AsyncnbdError } from "../errors.js";
import { definitionOf } from "./c-definition.js";
import { resolvePlugin } from "./resolve.js";
import type { Plugin } from "./script/definition.js";
import type { ClientStream, ServedPlugin } from "./served-plugin.js";

function check(failure: Failure): void {
  if (failure !== undefined) throw new AsyncnbdError("PLUGIN", failure);
}

export class CPlugin implements ServedPlugin {
  readonly #native: NativePlugin;
  readonly about: PluginAbout;
  #started = false;

  private constructor(native: NativePlugin) {
    this.#native = native;
    this.about = native.about;
  }

  /** Opens the shared object; calls none of the plugin's functions but its registration. */
  static open(name: string): CPlugin {
    const found = resolvePlugin(name);
    if (!("path" in found))
      throw new AsyncnbdError(
        "PLUGIN",
        `cannot open plugin "${name}": there is no nbdkit-${name}-plugin.so in ` +
          `${found.searched.join(", ")}; give its path, or set ASYNCNBD_PLUGIN_PATH`,
      );
    const native = new (addon().NativePlugin)(found.path);
    check(native.open());
    return new CPlugin(native);
  }

  setDebugFlag(flag: string, value: number): boolean {
    return this.#native.setDebugFlag(flag, value);
  }

  load(): void {
    this.#native.load();
  }

  config(key: string, value: string | number | boolean): void {
    check(this.#native.config(key, String(value)));
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

  newSession(server: NativeServer, stream: ClientStream) {
    const native = new (addon().NativeSession)(server, this.#native, stream);
    return { native, calls: native };
  }

  get unansweredRequests(): number {
    return this.#native.unansweredRequests;
  }

  async end(): Promise<void> {
    this.#native.end(this.#started);
  }
}
