// The server inside another program: serve().

import { type Log, logOf, processLog } from "../addon/log.js";
import type { Listen } from "../config/listeners/index.js";
import { AsyncnbdError } from "../errors.js";
import { Chain } from "../exports/chain.js";
import { Export } from "../exports/export.js";
import type { FilterChoice } from "../filters/choice.js";
import type { Parameter, ParameterValue } from "../plugins/life.js";
import { scriptOf } from "../plugins/program.js";
import type { Reload } from "../plugins/reload.js";
import type { Plugin } from "../plugins/script/definition.js";
import { ScriptPlugin } from "../plugins/script/script-plugin.js";
import { abandon, type OpenListeners, openListeners } from "./listen.js";
import { NbdServer } from "./nbd-server.js";
import { openExport, type ServedExport } from "./open-export.js";
import { checkServeOptions } from "./serve-options.js";
import type { ListenOn, ServeOptions, ServeOptionsFor, ServeTls } from "./serve-types.js";
import { closeTls, NO_TLS, type OpenTls, openTls } from "./tls.js";

function listenersFor(where: ListenOn, log: Log): OpenListeners | undefined {
  if (where === "nothing") return undefined;
  return openListeners(listenOf(where), log);
}

function listenOf(where: Exclude<ListenOn, "nothing">): Exclude<Listen, { kind: "stdio" }> {
  if (where === "private-unix") return { kind: "private-unix" };
  if ("unix" in where) return { kind: "unix", path: where.unix };
  return { kind: "tcp", host: where.host ?? "", port: String(where.port), family: 0 };
}

async function exportFor(
  options: ServeOptions,
  log: Log,
  onReload: (reload: Reload) => void,
): Promise<ServedExport> {
  const { plugin, filters = [], workers = 0, watch = false } = options;
  if (typeof plugin === "string")
    return openExport({ plugin, filters, watch, logTo: log, onReload }, workers);
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
  return new Export(await Chain.of(new ScriptPlugin(plugin, plugin.name, log), filters, log));
}

/**
 * Starts a server in this program. Resolves when clients can connect; rejects with an
 * AsyncnbdError that says what is wrong with the plugin, its parameters or the socket. `config` has
 * the types of the plugin's declaration, and of its filters', unless one is given by name.
 *
 * @example
 * await using server = await serve({ plugin: disk, config: { size: "1G" } });
 * console.log(server.uri);
 */
export async function serve<
  P extends Plugin | string,
  const F extends readonly FilterChoice[] = readonly [],
>(given: ServeOptionsFor<P, F>): Promise<NbdServer> {
  const options: unknown = given;
  checkServeOptions(options);
  options.signal?.throwIfAborted();
  const log = options.logger === undefined ? processLog : logOf(options.logger);
  const tls = tlsFor(options.tls, log);
  try {
    return await start(options, tls, log);
  } catch (error) {
    closeTls(tls);
    await log.drained(); // lines say what was wrong
    throw error;
  }
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

async function start(given: ServeOptions, tls: OpenTls, log: Log): Promise<NbdServer> {
  const options = withScript(given);
  let server: NbdServer | undefined;
  const served = await exportFor(options, log, (reload) => server?.hasReloaded(reload));
  try {
    server = await startExport(served, options, tls, log);
    return server;
  } catch (error) {
    // The program goes on: what the plugin has taken comes back. The first error is the one to tell.
    await served.end().catch(() => {});
    throw error;
  }
}

const parametersOf = ({ config = {} }: ServeOptions): Parameter[] =>
  Object.entries(config).filter(
    (entry): entry is [string, ParameterValue] => entry[1] !== undefined,
  );

async function startExport(
  served: ServedExport,
  options: ServeOptions,
  tls: OpenTls,
  log: Log,
): Promise<NbdServer> {
  await served.load();
  await served.getReady(parametersOf(options));
  const listeners = listenersFor(options.listen ?? "private-unix", log);
  try {
    await served.afterFork();
    await log.drained(); // before clients can come, whose events the program is to hear
    return new NbdServer(served, options, tls, listeners, log);
  } catch (error) {
    if (listeners !== undefined) abandon(listeners);
    throw error;
  }
}
