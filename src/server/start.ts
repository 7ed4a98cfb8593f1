// The start of a server in a program, from its options to the first client, and what becomes of it
// when the program no longer waits for it.

import { addon } from "../addon/addon.js";
import { keepLibrariesAtExit, leaveCallsIf } from "../addon/exit.js";
import { type Log, logOf, processLog } from "../addon/log.js";
import { clientLimits } from "../client-limits.js";
import type { Listen } from "../config/listeners/index.js";
import { AsyncnbdError } from "../errors.js";
import { Chain } from "../exports/chain.js";
import { Export } from "../exports/export.js";
import type { Parameter, ParameterValue } from "../plugins/life.js";
import { scriptOf } from "../plugins/program.js";
import type { Reload } from "../plugins/reload.js";
import { ScriptPlugin } from "../plugins/script/script-plugin.js";
import { abandon, type OpenListeners, openListeners } from "./listen.js";
import { NbdServer } from "./nbd-server.js";
import { openExport, type ServedExport } from "./open-export.js";
import { endInTime } from "./plugin-end.js";
import type { ListenOn, ServeOptions, ServeTls } from "./serve-types.js";
import { pluginEndMs } from "./stop-times.js";
import { closeTls, NO_TLS, type OpenTls, openTls } from "./tls.js";

export class Start {
  readonly #options: ServeOptions;
  readonly #log: Log;
  #served: ServedExport | undefined; // once it is open
  #listeners: OpenListeners | undefined; // before they are the server's
  #server: NbdServer | undefined;
  #isServing = false;
  #onReturn: (() => void) | undefined; // set by leave()

  constructor(options: ServeOptions) {
    this.#options = withScript(options);
    this.#log = options.logger === undefined ? processLog : logOf(options.logger);
  }

  /** No step begins after the options' signal has fired. */
  async run(): Promise<NbdServer> {
    const tls = tlsFor(this.#options.tls, this.#log);
    try {
      return await this.#start(tls);
    } catch (error) {
      closeTls(tls);
      await this.#log.drained(); // lines say what was wrong
      throw error;
    } finally {
      this.#onReturn?.();
    }
  }

  /**
   * Nobody waits for it any more. The call in progress may never return, and does not keep the
   * process alive, or a socket; if it does return, the plugin ends.
   */
  leave(): void {
    if (this.#isServing) return; // the server closes
    this.#closeListeners();
    keepLibrariesAtExit();
    this.#served?.setRef(false);
    this.#onReturn = leaveCallsIf(() => true);
  }

  async #start(tls: OpenTls): Promise<NbdServer> {
    const served = await this.#open();
    this.#served = served;
    try {
      return await this.#startExport(served, tls);
    } catch (error) {
      // The program goes on: what the plugin has taken comes back. The first error is the one to tell.
      await this.#end(served).catch(() => {});
      throw error;
    }
  }

  #open(): Promise<ServedExport> {
    const { plugin, filters = [], workers = 0, watch = false, signal } = this.#options;
    const logTo = this.#log;
    const onReload = (reload: Reload): void => this.#server?.hasReloaded(reload);
    if (typeof plugin === "string")
      return openExport({ plugin, filters, watch, logTo, onReload }, workers, signal);
    refuseModuleOptions(watch, workers);
    return Chain.of(new ScriptPlugin(plugin, plugin.name, logTo), filters, logTo).then(
      (chain) => new Export(chain),
    );
  }

  async #startExport(served: ServedExport, tls: OpenTls): Promise<NbdServer> {
    const options = this.#options;
    const { signal } = options;
    signal?.throwIfAborted();
    await served.load();
    signal?.throwIfAborted();
    await served.getReady(parametersOf(options), signal);
    signal?.throwIfAborted();
    this.#listeners = listenersFor(options.listen ?? "private-unix", this.#log);
    try {
      await served.afterFork();
      await this.#log.drained(); // before clients can come, whose events the program is to hear
      signal?.throwIfAborted();
      this.#isServing = true;
      this.#server = new NbdServer(served, options, tls, this.#listeners, this.#log);
      return this.#server;
    } catch (error) {
      this.#closeListeners();
      throw error;
    }
  }

  #closeListeners(): void {
    if (this.#listeners !== undefined) abandon(this.#listeners);
    this.#listeners = undefined;
  }

  async #end(served: ServedExport): Promise<void> {
    if (this.#onReturn !== undefined) return served.end(); // nobody waits
    const { graceMs } = clientLimits(this.#options);
    if (await endInTime(served, pluginEndMs(graceMs, performance.now()), this.#log)) return;
    served.setRef(false);
    addon().endWithoutDestructors();
  }
}

function refuseModuleOptions(watch: boolean, workers: number): void {
  if (watch)
    throw new AsyncnbdError(
      "WATCH_IMPOSSIBLE",
      "watch: a plugin object cannot be loaded again; give the path of its module",
    );
  if (workers > 0)
    throw new AsyncnbdError(
      "WORKERS_IMPOSSIBLE",
      "workers: a plugin object cannot run on several threads; give the path of its module",
    );
}

function tlsFor(given: ServeTls | undefined, log: Log): OpenTls {
  if (given === undefined) return NO_TLS;
  const { mode = "require", certificates, preSharedKeys, verifyPeer = false } = given;
  const priority = given.priority ?? {};
  return openTls({ mode, certificates, preSharedKeys, verifyPeer, priority }, log);
}

/** A plugin that is a script is one of its interpreter's, with the script as a parameter. */
function withScript(options: ServeOptions): ServeOptions {
  const found = typeof options.plugin === "string" ? scriptOf(options.plugin) : undefined;
  if (found === undefined) return options;
  const { plugin, script } = found;
  return { ...options, plugin, config: { script, ...options.config } };
}

const parametersOf = ({ config = {} }: ServeOptions): Parameter[] =>
  Object.entries(config).filter(
    (entry): entry is [string, ParameterValue] => entry[1] !== undefined,
  );

function listenersFor(where: ListenOn, log: Log): OpenListeners | undefined {
  if (where === "nothing") return undefined;
  return openListeners(listenOf(where), log);
}

function listenOf(where: Exclude<ListenOn, "nothing">): Exclude<Listen, { kind: "stdio" }> {
  if (where === "private-unix") return { kind: "private-unix" };
  if ("unix" in where) return { kind: "unix", path: where.unix };
  return { kind: "tcp", host: where.host ?? "", port: String(where.port), family: 0 };
}
