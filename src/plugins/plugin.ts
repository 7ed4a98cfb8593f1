// A loaded C plugin, whose failures are exceptions.

import { addon } from "../addon/load.js";
import type { Failure, NativePlugin, PluginAbout } from "../addon/types.js";
import { AsyncnbdError } from "../errors.js";
import { resolvePlugin } from "./resolve.js";

function check(failure: Failure): void {
  if (failure !== undefined) throw new AsyncnbdError("PLUGIN", failure);
}

/** Methods in the order in which a server calls them. */
export class Plugin {
  readonly native: NativePlugin;
  readonly about: PluginAbout;
  #started = false;

  private constructor(native: NativePlugin) {
    this.native = native;
    this.about = native.about;
  }

  /** Opens the shared object; calls none of the plugin's functions but its registration. */
  static open(name: string): Plugin {
    const found = resolvePlugin(name);
    if (!("path" in found))
      throw new AsyncnbdError(
        "PLUGIN",
        `cannot open plugin "${name}": there is no nbdkit-${name}-plugin.so in ` +
          `${found.searched.join(", ")}; give its path, or set ASYNCNBD_PLUGIN_PATH`,
      );
    const native = new (addon().NativePlugin)(found.path);
    check(native.open());
    return new Plugin(native);
  }

  setDebugFlag(flag: string, value: number): boolean {
    return this.native.setDebugFlag(flag, value);
  }

  load(): void {
    this.native.load();
  }

  config(key: string, value: string): void {
    check(this.native.config(key, value));
  }

  configComplete(): void {
    check(this.native.configComplete());
  }

  settleThreadModel(): void {
    check(this.native.settleThreadModel());
  }

  /** Only one client is served at a time. */
  get serializesConnections(): boolean {
    return this.native.threadModel === 0;
  }

  getReady(): void {
    check(this.native.getReady());
  }

  afterFork(): void {
    check(this.native.afterFork());
    this.#started = true;
  }

  /** Unloads it; no client may be left. */
  async end(): Promise<void> {
    await this.native.end(this.#started);
  }
}
