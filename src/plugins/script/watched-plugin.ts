// A plugin under development: when its file changes, the new version takes over from the old one,
// and clients stay where the export has not changed its shape.

import { existsSync, type FSWatcher, watch } from "node:fs";
import { dirname, extname } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { addon } from "../../addon/addon.js";
import type { ScriptCapabilities } from "../../addon/types.js";
import { AsyncnbdError, messageOf } from "../../errors.js";
import type { PluginInstance } from "../plugin-instance.js";
import { QUESTION_NAMES, REQUEST_NAMES } from "./callbacks.js";
import type { Plugin } from "./definition.js";
import { describeThrown } from "./errno.js";
import { askCapabilities } from "./export.js";
import { FreshModules } from "./fresh-modules.js";
import { EXTENSIONS, loadScript } from "./load-script.js";
import type { OpenInfo } from "./requests.js";
import { RunnablePlugin } from "./runner.js";
import { ScriptPlugin } from "./script-plugin.js";

/** Editors write in several steps. */
const SETTLE_MS = 100;

const SERVER_CALLBACKS = ["preconnect", "listExports", "defaultExport", "getReady"] as const;

type Callback = (...args: unknown[]) => unknown;

/** One reading of the file. */
class Version {
  readonly script: ScriptPlugin;
  readonly plugin: Plugin;
  openExports = 0;
  #started = false;
  #ended = false;

  constructor(script: ScriptPlugin) {
    this.script = script;
    this.plugin = script.asDefinition();
  }

  callback(name: keyof Plugin): Callback | undefined {
    return this.plugin[name] as Callback | undefined;
  }

  async afterFork(): Promise<void> {
    await this.plugin.afterFork?.();
    this.#started = true;
  }

  async end(): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    if (this.#started) await this.plugin.cleanup?.();
    await this.plugin.unload?.();
  }
}

/** An export that one version has open. */
class Opened {
  readonly version: Version;
  readonly handle: unknown;
  #requests = 0;
  #onIdle: (() => void) | undefined;

  constructor(version: Version, handle: unknown) {
    this.version = version;
    this.handle = handle;
    version.openExports++;
  }

  async request(name: keyof Plugin, rest: readonly unknown[]): Promise<unknown> {
    this.#requests++;
    try {
      return await this.version.callback(name)?.call(this.version.plugin, this.handle, ...rest);
    } finally {
      if (--this.#requests === 0) this.#onIdle?.();
    }
  }

  /** When its last request has been answered. */
  async close(): Promise<void> {
    if (this.#requests > 0)
      await new Promise<void>((resolve) => {
        this.#onIdle = resolve;
      });
    try {
      await this.version.plugin.close?.(this.handle);
    } finally {
      this.version.openExports--;
    }
  }
}

/** What clients' handles are: whichever version they are with. */
interface Client {
  readonly info: OpenInfo;
  opened: Opened;
  isGone: boolean;
}

/** What is in front of the object may have a property of its own instead, by assigning it. */
function defineLive(object: object, name: string, get: () => unknown): void {
  Object.defineProperty(object, name, {
    get,
    set(this: object, value: unknown) {
      const own = { value, writable: true, enumerable: true, configurable: true };
      Object.defineProperty(this, name, own);
    },
    enumerable: true,
  });
}

export class WatchedPlugin extends RunnablePlugin implements PluginInstance {
  readonly unansweredRequests = 0;
  readonly #path: string;
  readonly #modules: FreshModules;
  readonly #parameters: [string, unknown][] = [];
  readonly #clients = new Set<Client>();
  readonly #front: Plugin;
  #current: Version;
  readonly #watcher: FSWatcher;
  #started = false;
  #hasChanged = false; // before the start
  #timer: NodeJS.Timeout | undefined;
  #reloading: Promise<void> = Promise.resolve();

  private constructor(
    path: string,
    script: ScriptPlugin,
    watcher: FSWatcher,
    modules: FreshModules,
  ) {
    super();
    this.#path = path;
    this.#modules = modules;
    this.#current = new Version(script);
    this.#front = this.#makeFront();
    this.#watcher = watcher;
  }

  static async open(path: string): Promise<WatchedPlugin> {
    if (!existsSync(path)) await loadScript(path); // which says so
    const modules = new FreshModules(dirname(path));
    let plugin: WatchedPlugin | undefined;
    let isStale = false;
    // Before the file is read, so that no change is missed. The directory, because editors put a new
    // file in the place of the old one.
    const watcher = watch(dirname(path), { persistent: false }, (_event, file) => {
      if (file === null || !EXTENSIONS.has(extname(file))) return;
      if (plugin === undefined) isStale = true;
      else plugin.#onChange();
    });
    watcher.on("error", (error) => addon().logError(`--watch: ${path}: ${messageOf(error)}`));
    const script = new ScriptPlugin(await loadScript(path), path);
    plugin = new WatchedPlugin(path, script, watcher, modules);
    plugin.#hasChanged = isStale;
    return plugin;
  }

  get about() {
    return this.#current.script.about;
  }

  get serializesConnections(): boolean {
    return this.#current.script.serializesConnections;
  }

  asDefinition(): Plugin {
    return this.#front;
  }

  setDebugFlag(): boolean {
    return false;
  }

  async load(): Promise<void> {
    await this.#current.script.load();
  }

  config(key: string, value: unknown, others?: readonly string[]): void {
    this.#parameters.push([key, value]);
    this.#current.script.config(key, value, others);
  }

  async configComplete(): Promise<void> {
    await this.#current.script.configComplete();
  }

  settleThreadModel(): void {}

  async dump(write: (lines: string) => void): Promise<void> {
    await this.#current.script.dump(write);
  }

  protected pluginToRun(): Plugin {
    return this.#front;
  }

  protected async endUnready(): Promise<void> {
    await this.#current.script.end();
  }

  // ---- the plugin that clients see -----------------------------------------------------------

  /** Has the callbacks that the current version has. */
  #makeFront(): Plugin {
    const front = {} as Record<string, unknown>;
    const define = (name: keyof Plugin, callback: Callback): void => {
      const get = () => (this.#current.callback(name) === undefined ? undefined : callback);
      defineLive(front, name, get);
    };
    for (const name of SERVER_CALLBACKS)
      define(name, (...args) => this.#current.callback(name)?.call(this.#current.plugin, ...args));
    for (const name of [...QUESTION_NAMES, ...REQUEST_NAMES])
      define(name, (client, ...rest) => (client as Client).opened.request(name, rest));
    for (const name of ["name", "threadModel", "requestTimeoutMs"] as const)
      defineLive(front, name, () => this.#current.plugin[name]);
    return Object.assign(front, {
      open: (info: OpenInfo) => this.#open(info),
      close: (client: Client) => this.#close(client),
      afterFork: async () => {
        await this.#current.afterFork();
        this.#started = true;
        if (this.#hasChanged) this.#onChange();
      },
      unload: () => this.#end(),
    }) as unknown as Plugin;
  }

  async #open(info: OpenInfo): Promise<Client> {
    const version = this.#current;
    const opened = new Opened(version, await version.plugin.open?.(info));
    const client = { info, opened, isGone: false };
    this.#clients.add(client);
    return client;
  }

  async #close(client: Client): Promise<void> {
    client.isGone = true;
    this.#clients.delete(client);
    await this.#leave(client.opened);
  }

  /** The last one to leave an old version ends it. */
  async #leave(opened: Opened): Promise<void> {
    await opened.close();
    const { version } = opened;
    if (version !== this.#current && version.openExports === 0) await version.end();
  }

  async #end(): Promise<void> {
    this.#watcher.close();
    clearTimeout(this.#timer);
    await this.#reloading;
    await this.#current.end();
  }

  // ---- new versions --------------------------------------------------------------------------

  #onChange(): void {
    this.#hasChanged = true;
    if (!this.#started) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#reloading = this.#reloading.then(() => this.#reload());
    }, SETTLE_MS).unref();
  }

  async #reload(): Promise<void> {
    const old = this.#current;
    let fresh: Version;
    try {
      fresh = await this.#loadVersion();
    } catch (error) {
      const why = error instanceof AsyncnbdError ? error.message : describeThrown(error);
      addon().logError(`--watch: ${why}\n--watch: keeping the old version`);
      return;
    }
    this.#current = fresh;
    const clients = [...this.#clients];
    const followed = await Promise.all(clients.map((client) => this.#move(client, fresh)));
    const stay = followed.filter((moved) => !moved).length;
    if (old.openExports === 0) await old.end();
    const rest = stay === 0 ? "" : `; ${stay} clients keep the old version until they disconnect`;
    addon().logWarning(`--watch: reloaded ${this.#path}${rest}`);
  }

  async #loadVersion(): Promise<Version> {
    this.#modules.renew();
    const script = new ScriptPlugin(await loadScript(this.#path), this.#path);
    await script.load();
    for (const [key, value] of this.#parameters) script.config(key, value);
    await script.configComplete();
    const version = new Version(script);
    if (version.plugin.threadModel !== this.#current.plugin.threadModel)
      throw new AsyncnbdError("PLUGIN", "a change of the thread model needs a restart");
    await version.plugin.getReady?.();
    await version.afterFork();
    return version;
  }

  /** False: the export is another one there, and the client must not notice. */
  async #move(client: Client, version: Version): Promise<boolean> {
    let opened: Opened | undefined;
    try {
      opened = new Opened(version, await version.plugin.open?.(client.info));
      const now = await shapeOf(opened, client.info);
      const isSame = isDeepStrictEqual(await shapeOf(client.opened, client.info), now);
      const isLeft = isSame && !client.isGone ? client.opened : opened;
      if (isLeft !== opened) client.opened = opened;
      void this.#leave(isLeft).catch(logFailure);
      return isLeft !== opened || client.isGone;
    } catch (error) {
      logFailure(error);
      if (opened !== undefined) void this.#leave(opened).catch(logFailure);
      return client.isGone;
    }
  }
}

const logFailure = (error: unknown): void => addon().logError(`--watch: ${describeThrown(error)}`);

/** What has been announced to a client about its export. */
function shapeOf({ version, handle }: Opened, info: OpenInfo): Promise<ScriptCapabilities> {
  return askCapabilities(version.plugin, handle, info.readonly);
}
