// A plugin under development: when its file changes, the new version takes over from the old one,
// and clients stay where the export has not changed its shape.

import { existsSync, type FSWatcher, watch } from "node:fs";
import { dirname, extname } from "node:path";
import { isDeepStrictEqual } from "node:util";
import type { Log } from "../../addon/log.js";
import type { ExportEntry, MetaContextEntry, NativeHold } from "../../addon/types.js";
import { AsyncnbdError, messageOf } from "../../errors.js";
import type { Client, ExportSource } from "../export-source.js";
import { Life, type OnCall, type Parameter } from "../life.js";
import type { HandshakeCalls, PluginInstance } from "../plugin-instance.js";
import type { Reload } from "../reload.js";
import type { ThreadModelName } from "./definition.js";
import { describeThrown } from "./errno.js";
import { FreshModules } from "./fresh-modules.js";
import type { Layer, OpenExport } from "./layer.js";
import { EXTENSIONS, loadScript } from "./load-script.js";
import type { ClientInfo, OpenInfo } from "./requests.js";
import { ScriptRunner } from "./runner.js";
import { ScriptPlugin } from "./script-plugin.js";
import { Opened, Version } from "./version.js";

/** Editors write in several steps. */
const SETTLE_MS = 100;

/** A client's export, whichever version it is with. */
interface Follower {
  readonly info: OpenInfo;
  readonly client: Client;
  opened: Opened;
  isGone: boolean;
}

export class WatchedPlugin implements PluginInstance, ExportSource {
  readonly blockSizesBind = true;
  readonly unansweredRequests = 0;
  readonly #path: string;
  readonly #log: Log;
  readonly #onReload: (reload: Reload) => void;
  readonly #modules: FreshModules;
  readonly #parameters: Parameter[] = [];
  readonly #followers = new Set<Follower>();
  #current: Version;
  readonly #watcher: FSWatcher;
  #runner: ScriptRunner | undefined;
  #started = false;
  #hasChanged = false; // before the start
  #timer: NodeJS.Timeout | undefined;
  #reloading: Promise<void> = Promise.resolve();
  #reloadCall = ""; // that a reload is in; "" between reloads
  #onReloadCall: OnCall = () => {};
  #isLoading = false; // a version that is not current yet
  #isOver = false;
  #hold: NativeHold | undefined;

  private constructor(
    path: string,
    script: ScriptPlugin,
    watcher: FSWatcher,
    modules: FreshModules,
    log: Log,
    onReload: (reload: Reload) => void,
  ) {
    this.#log = log;
    this.#onReload = onReload;
    this.#path = path;
    this.#modules = modules;
    this.#current = new Version(script, log, () => this.#hold);
    this.#watcher = watcher;
  }

  static async open(
    path: string,
    log: Log,
    onReload: (reload: Reload) => void = () => {},
  ): Promise<WatchedPlugin> {
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
    watcher.on("error", (error) => log.error(`--watch: ${path}: ${messageOf(error)}`));
    try {
      const script = new ScriptPlugin(await loadScript(path), path, log);
      plugin = new WatchedPlugin(path, script, watcher, modules, log, onReload);
      plugin.#hasChanged = isStale;
      return plugin;
    } catch (error) {
      watcher.close();
      throw error;
    }
  }

  get about() {
    return this.#current.script.about;
  }

  get serializesConnections(): boolean {
    return this.#current.script.serializesConnections;
  }

  get isShutdownRequested(): boolean {
    return this.#current.script.isShutdownRequested;
  }

  get threadModel(): ThreadModelName | undefined {
    return this.#current.script.threadModel;
  }

  setDebugFlag(): boolean {
    return false;
  }

  async load(): Promise<void> {
    await this.#current.load();
  }

  config(key: string, value: Parameter[1], others?: readonly string[]): void {
    this.#parameters.push([key, value]);
    this.#current.config(key, value, others);
  }

  async configComplete(): Promise<void> {
    await this.#current.configComplete();
  }

  settleThreadModel(): void {
    this.#current.settleThreadModel();
  }

  get callModel(): number {
    return this.#current.script.callModel;
  }

  async dump(write: (lines: string) => void, leastModel?: number): Promise<void> {
    await this.#current.script.dump(write, leastModel);
  }

  async getReady(filters: readonly Layer[], hold: NativeHold): Promise<void> {
    this.#hold = hold;
    this.#runner = new ScriptRunner(this, filters, this.#log);
    await this.#current.getReady();
    await this.#runner.getReady(hold);
  }

  async afterFork(): Promise<void> {
    await this.#current.afterFork();
    this.#current.life = new Life(this.#current, "started");
    this.#started = true;
    if (this.#hasChanged) this.#onChange();
  }

  callsFor(client: Client): HandshakeCalls {
    return (this.#runner as ScriptRunner).callsFor(client);
  }

  async closeForAll(): Promise<void> {
    await this.#runner?.closeForAll();
  }

  /**
   * Of the version that is current then; the others have ended with their last clients. The load of
   * a new one may never return, and so the current one ends first.
   */
  async cleanup(onCall: OnCall): Promise<void> {
    try {
      await this.#stopWatching(onCall);
    } finally {
      await this.#current.life.end(onCall);
    }
    await this.#reloaded(onCall);
  }

  async unload(): Promise<void> {
    try {
      await this.#stopWatching(() => {});
    } finally {
      if (!this.#started) await this.#current.unload(() => {});
    }
  }

  /** Once, whichever comes first. */
  async #stopWatching(onCall: OnCall): Promise<void> {
    this.#isOver = true;
    this.#watcher.close();
    clearTimeout(this.#timer);
    if (!this.#isLoading) await this.#reloaded(onCall);
    await this.#runner?.end();
  }

  /** Resolves when no reload is in progress. */
  async #reloaded(onCall: OnCall): Promise<void> {
    if (this.#reloadCall !== "") onCall(this.#reloadCall);
    this.#onReloadCall = onCall;
    await this.#reloading;
    this.#onReloadCall = () => {};
  }

  #enterReloadCall(call: string): void {
    this.#reloadCall = call;
    this.#onReloadCall(call);
  }

  // ---- what clients meet ---------------------------------------------------------------------

  get #source(): ExportSource {
    return this.#current.script.source;
  }

  get name(): string {
    return this.#source.name;
  }

  get requestTimeoutMs(): number | undefined {
    return this.#source.requestTimeoutMs;
  }

  async preconnect(info: ClientInfo, client: Client): Promise<boolean> {
    return this.#source.preconnect(info, client);
  }

  async listExports(info: ClientInfo, client: Client): Promise<ExportEntry[] | undefined> {
    return this.#source.listExports(info, client);
  }

  async defaultExport(info: ClientInfo, client: Client): Promise<string> {
    return this.#source.defaultExport(info, client);
  }

  async metaContexts(info: OpenInfo, client: Client): Promise<MetaContextEntry[]> {
    return this.#source.metaContexts(info, client);
  }

  async open(info: OpenInfo, client: Client): Promise<OpenExport> {
    const version = this.#current;
    const opened = new Opened(version, await version.open(info, client));
    const follower: Follower = { info, client, opened, isGone: false };
    this.#followers.add(follower);
    return {
      facts: opened.export.facts,
      read: (...given) => follower.opened.request(({ read }) => read(...given)),
      write: (...given) => follower.opened.request(({ write }) => write(...given)),
      flush: (...given) => follower.opened.request(({ flush }) => flush(...given)),
      trim: (...given) => follower.opened.request(({ trim }) => trim(...given)),
      zero: (...given) => follower.opened.request(({ zero }) => zero(...given)),
      cache: (...given) => follower.opened.request(({ cache }) => cache(...given)),
      extents: (...given) => follower.opened.request(({ extents }) => extents(...given)),
      status: (...given) => follower.opened.request(({ status }) => status(...given)),
      close: () => this.#close(follower),
    };
  }

  async #close(follower: Follower): Promise<void> {
    follower.isGone = true;
    this.#followers.delete(follower);
    follower.opened.giveUp(); // native code has, what has not been answered
    await this.#leave(follower.opened);
  }

  /** The last one to leave an old version ends it. */
  async #leave(opened: Opened): Promise<void> {
    await opened.close();
    const { version } = opened;
    if (version !== this.#current && version.openExports === 0) await version.life.end();
  }

  // ---- new versions --------------------------------------------------------------------------

  #onChange(): void {
    this.#hasChanged = true;
    if (!this.#started) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#reloading = this.#reloading
        .then(() => this.#reload())
        .catch((e) => this.#reportFailure(e))
        .finally(() => {
          this.#reloadCall = "";
        });
    }, SETTLE_MS).unref();
  }

  async #reload(): Promise<void> {
    if (this.#isOver) return;
    const old = this.#current;
    let fresh: Version;
    this.#isLoading = true;
    try {
      fresh = await this.#loadVersion();
    } catch (error) {
      this.#reportFailure(error, "\n--watch: keeping the old version");
      return;
    } finally {
      this.#isLoading = false;
    }
    if (this.#isOver) return fresh.life.end(fresh.onCall); // it has come too late
    this.#current = fresh;
    this.#enterReloadCall(`${this.about.name}: open of the new version`);
    const followers = [...this.#followers];
    const followed = await Promise.all(followers.map((follower) => this.#move(follower, fresh)));
    const clientsLeft = followed.filter((moved) => !moved).length;
    // The new version serves already, however the old one ends.
    const onCall: OnCall = (call) => this.#enterReloadCall(`${call} of the old version`);
    if (old.openExports === 0) await old.life.end(onCall).catch(this.#logFailure);
    const rest =
      clientsLeft === 0
        ? ""
        : `; ${clientsLeft} clients keep the old version until they disconnect`;
    this.#log.warn(`--watch: reloaded ${this.#path}${rest}`);
    this.#onReload({ path: this.#path, error: undefined, clientsLeft });
  }

  readonly #reportFailure = (error: unknown, more = ""): void => {
    const failed =
      error instanceof AsyncnbdError
        ? error
        : new AsyncnbdError("PLUGIN_FAILED", describeThrown(error), { cause: error });
    this.#log.error(`--watch: ${failed.message}${more}`);
    this.#onReload({ path: this.#path, error: failed, clientsLeft: 0 });
  };

  async #loadVersion(): Promise<Version> {
    const onCall: OnCall = (call) => this.#enterReloadCall(`${call} of the new version`);
    onCall(`${this.about.name}: the import`);
    this.#modules.renew();
    const script = new ScriptPlugin(await loadScript(this.#path), this.#path, this.#log);
    const version = new Version(script, this.#log, () => this.#hold);
    version.onCall = onCall;
    if (version.script.threadModel !== this.threadModel)
      throw new AsyncnbdError("RESTART_NEEDED", "a change of the thread model needs a restart");
    try {
      await version.life.load();
      await version.life.getReady(this.#parameters);
      await version.life.afterFork();
    } catch (error) {
      await version.life.end(onCall).catch(this.#logFailure);
      throw error;
    }
    return version;
  }

  readonly #logFailure = (error: unknown): void =>
    this.#log.error(`--watch: ${describeThrown(error)}`);

  /** False: the export is another one there, and the client must not notice. */
  async #move(follower: Follower, version: Version): Promise<boolean> {
    let opened: Opened | undefined;
    try {
      opened = new Opened(version, await version.open(follower.info, follower.client));
      const isSame = isDeepStrictEqual(shapeOf(follower.opened), shapeOf(opened));
      const isLeft = isSame && !follower.isGone ? follower.opened : opened;
      if (isLeft !== opened) follower.opened = opened;
      void this.#leave(isLeft).catch(this.#logFailure);
      return isLeft !== opened || follower.isGone;
    } catch (error) {
      this.#logFailure(error);
      if (opened !== undefined) void this.#leave(opened).catch(this.#logFailure);
      return follower.isGone;
    }
  }
}

/** What a client relies on. */
const shapeOf = ({ export: { facts } }: Opened): object => ({ ...facts, description: "" });
