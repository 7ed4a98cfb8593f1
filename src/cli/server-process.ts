// The life of the server process, in nbdkit's order: load, configure, listen, get ready, serve,
// stop.

import { writeFileSync } from "node:fs";
import { constants } from "node:os";
import { addon } from "../addon/addon.js";
import type { PluginAbout } from "../addon/types.js";
import type { Endpoint } from "../config/listeners/index.js";
import { parseParameters } from "../config/parameters.js";
import type { Config } from "../config/schema.js";
import { type UriTls, uriOf } from "../config/uri.js";
import { AsyncnbdError, reasonOf } from "../errors.js";
import type { Parameter } from "../plugins/life.js";
import { isSharedObject } from "../plugins/resolve.js";
import { labelled, type OpenListeners, openListeners } from "../server/listen.js";
import { exportsOf, openExport, type ServedExport } from "../server/open-export.js";
import { Server } from "../server/server.js";
import { type OpenTls, openTls } from "../server/tls.js";
import { exitNow, ServerEnd } from "./end.js";
import { configureLog, hasShortcuts, OUR_FLAGS } from "./log-options.js";
import { announceReady, detach } from "./readiness.js";
import type { RunningCommand } from "./run-command.js";
import { ServiceManager } from "./service-manager.js";
import { StopSignals } from "./signals.js";
import { UncaughtErrors } from "./uncaught.js";
import { changeUser } from "./user.js";

/** The grace for requests after an uncaught exception, since some may never be answered. */
const UNCAUGHT_GRACE_MS = 1_000;

/** A chain, or an export. */
interface Flagged {
  readonly about: PluginAbout;
  /** See Chain. */
  setDebugFlag(name: string, flag: string, value: number): boolean | undefined;
}

/** Opens something and sets its debug flags. */
export async function openFlagged<Opened extends Flagged>(
  config: Pick<Config, "debugFlags">,
  open: () => Promise<Opened>,
): Promise<Opened> {
  addon().keepLibraries();
  const opened = await open();
  for (const { plugin: name, flag, value } of config.debugFlags) {
    if (name === "nbdkit" && flag === "environ" && value !== 0) logEnvironment();
    if (OUR_FLAGS.includes(`${name}.${flag}`)) continue;
    const isSet = opened.setDebugFlag(name, flag, value);
    if (isSet === undefined)
      addon().logWarning(
        `--debug=${name}.${flag} was not used: the plugin is ${opened.about.name}`,
      );
    else if (!isSet)
      addon().logWarning(`--debug=${name}.${flag}: ${whyUnset(opened.about, name, flag)}`);
  }
  return opened;
}

/** nbdkit's filter of the same name may have this flag, and can be given by its path. */
function whyUnset({ filters = [] }: PluginAbout, name: string, flag: string): string {
  const ours = filters.find((filter) => filter.name === name && !isSharedObject(filter.path));
  if (ours !== undefined) return `the filter ${name} (${ours.path}) has no debug flag ${flag}`;
  return `${name} does not contain a global variable called ${name}_debug_${flag}`;
}

/** Where the log is verbose. */
function logEnvironment(): void {
  for (const [name, value] of Object.entries(process.env)) addon().logDebug(`${name}=${value}`);
}

/** Of the words on the command line. */
export function parametersFor(about: PluginAbout, words: readonly string[]): Parameter[] {
  const { magicConfigKey, path } = about;
  const parameters = parseParameters(words, magicConfigKey, isSharedObject(path));
  return parameters.map(({ key, value }) => [key, value]);
}

/**
 * Serves until a signal, the plugin, the end of --run's command or of the single client stops
 * it. Resolves with the exit status; rejects if the server cannot start.
 */
export async function serve(config: Config, readyFd: number | undefined): Promise<number> {
  addon().logClients(config.logClients);
  if (config.exitWithParent) addon().exitWithParent(process.ppid);
  if (config.listen.kind === "stdio") addon().setStdioSafe(false);
  const manager = new ServiceManager(process.env);
  const uncaught = new UncaughtErrors();
  const served = await uncaught.unlessUncaught(startExport(config));
  // Until here the plugin may execute the process anew, as nbdkit's vddk does for its libraries: with
  // the words of /proc/self/cmdline, and with our environment.
  showName();
  manager.started(process.env);
  return new ServerProcess(config, served, readyFd, uncaught, manager).run();
}

/** A parameter whose value is the secret itself, and not where it is. */
const SECRET =
  /^([^=]*(?:password|passphrase|secret|token|access[-_]key|secret[-_]key)=)(?![-+]).+$/is;

/** In lists of processes, which everybody may see. */
function showName(): void {
  const words = process.argv.slice(2).map((word) => word.replace(SECRET, "$1*"));
  process.title = ["asyncnbd", ...words].join(" ");
  addon().nameProcess("asyncnbd"); // the title has been cut for it
}

async function startExport(config: Config): Promise<ServedExport> {
  const served = await openFlagged(config, () => openExport(config, config.workers));
  await served.load();
  await served.getReady(parametersFor(served.about, config.parameters));
  return served;
}

class ServerProcess {
  readonly #config: Config;
  readonly #export: ServedExport;
  readonly #readyFd: number | undefined;
  readonly #server: Server;
  readonly #signals: StopSignals;
  readonly #uncaught: UncaughtErrors;
  readonly #manager: ServiceManager;
  readonly #tls: OpenTls;
  #listeners: OpenListeners | undefined;
  #begunEnd: ServerEnd | undefined;

  constructor(
    config: Config,
    served: ServedExport,
    readyFd: number | undefined,
    uncaught: UncaughtErrors,
    manager: ServiceManager,
  ) {
    this.#config = config;
    this.#uncaught = uncaught;
    this.#manager = manager;
    this.#export = served;
    this.#readyFd = readyFd;
    this.#signals = new StopSignals(() => this.#cleanUp());
    process.once("exit", () => this.#cleanUp()); // a plugin may call process.exit, too
    this.#tls = openTls(config.tls);
    const settings = {
      ...config,
      tls: this.#tls.mode,
      tlsContext: this.#tls.context,
      shortcuts: hasShortcuts(config),
    };
    this.#server = new Server(exportsOf(served), settings, () => this.#signals.stop(), {
      onConnection: () => manager.clientsChanged(1),
      onDisconnection: () => manager.clientsChanged(-1),
    });
  }

  async run(): Promise<number> {
    try {
      return await this.#run();
    } finally {
      this.#cleanUp();
    }
  }

  async #run(): Promise<number> {
    const config = this.#config;
    const { listen, selinuxLabel } = config;
    if (listen.kind !== "stdio") {
      this.#listeners = labelled(selinuxLabel, () => openListeners(listen));
      addon().removeAtForcedEnd(this.#listeners.made);
    }
    const endpoint: Endpoint = this.#listeners?.endpoint ?? { kind: "stdio" };
    this.#printUri(endpoint);

    const stdio = this.#takeStdio();
    const command = stdio && (await this.#startCommand(endpoint, stdio));
    try {
      await this.#uncaught.unlessUncaught(this.#settleInTime());
    } catch (error) {
      command?.kill("SIGTERM");
      throw error;
    }
    const client = command === undefined && stdio !== undefined ? stdio : undefined;
    return this.#serveUntilStopped(command, client);
  }

  /** Standard input and output, if they are for a client or a command. */
  #takeStdio(): readonly [number, number] | undefined {
    const { listen, runCommand } = this.#config;
    addon().setStdioSafe(false);
    const isTaken = listen.kind === "stdio" || runCommand !== undefined;
    const stdio = isTaken ? addon().copyStdio() : undefined;
    // In the foreground, the authors of plugins in TypeScript see what they print.
    const isPrinted = !isTaken && this.#readyFd === undefined;
    if (!isPrinted || isSharedObject(this.#export.about.path)) addon().silenceStdio();
    return stdio;
  }

  /** --run's, if there is one. */
  async #startCommand(
    endpoint: Endpoint,
    stdio: readonly [number, number],
  ): Promise<RunningCommand | undefined> {
    const { runCommand, exportName } = this.#config;
    if (runCommand === undefined) return undefined;
    const { RunningCommand, scriptFor } = await import("./run-command.js");
    return new RunningCommand(scriptFor(runCommand, endpoint, exportName, this.#uriTls), stdio);
  }

  /** A signal meanwhile gives the plugin the grace to finish its start, and then its usual end. */
  async #settleInTime(): Promise<void> {
    let isSettled = false;
    void this.#signals.stopped.then(() => {
      if (!isSettled) this.#beginEnd().guardStart(this.#export.about.name);
    });
    try {
      await this.#settle();
    } finally {
      isSettled = true;
    }
  }

  /** From open sockets to the first client. */
  async #settle(): Promise<void> {
    const config = this.#config;
    changeUser(config.user, config.group);
    if (this.#readyFd !== undefined) detach(config.verbose);
    if (config.pidFile !== undefined) writePidFile(config.pidFile);
    await this.#export.afterFork();
    if (this.#readyFd !== undefined) configureLog(config, true);
    this.#server.listen(this.#listeners?.fds ?? []);
    if (this.#readyFd !== undefined) announceReady(this.#readyFd);
    this.#manager.ready(this.#export.about.name);
  }

  async #serveUntilStopped(
    command: RunningCommand | undefined,
    client: readonly [number, number] | undefined,
  ): Promise<number> {
    const events: Promise<unknown>[] = [this.#signals.stopped, this.#uncaught.first];
    if (command !== undefined) events.push(command.status);
    if (client !== undefined) events.push(this.#server.serve(...client));
    await Promise.race(events);

    this.#manager.stopping();
    const isUncaught = this.#uncaught.haveHappened;
    if (isUncaught) command?.kill("SIGTERM");
    const { graceMs } = this.#config;
    const { name } = this.#export.about;
    const end = this.#beginEnd();
    const isOver = await end.guard(() =>
      this.#server.stop(isUncaught ? Math.min(graceMs, UNCAUGHT_GRACE_MS) : undefined),
    );
    if (isOver) await end.guardPlugin(name, (onCall) => this.#export.end(onCall));
    // A signal has ended the server, not the command, whose status is the process's.
    const status = command === undefined ? 0 : await end.guard(() => command.status);
    if (isOver) return this.#uncaught.haveHappened ? 1 : status;
    this.#cleanUp();
    // Threads that hang in the plugin would keep us alive.
    exitNow(this.#uncaught.haveHappened ? 1 : status || 1);
  }

  /** It begins when it is first asked for. */
  #beginEnd(): ServerEnd {
    const signal = this.#signals.received;
    const forcedStatus = signal === undefined ? 1 : 128 + constants.signals[signal];
    this.#begunEnd ??= new ServerEnd(forcedStatus, this.#config.graceMs);
    return this.#begunEnd;
  }

  #printUri(endpoint: Endpoint): void {
    const { listen, printUri, exportName, runCommand } = this.#config;
    const isPortNews = listen.kind === "tcp" && listen.port === "0" && runCommand === undefined;
    const uri = uriOf(endpoint, exportName, this.#uriTls);
    if ((printUri || isPortNews) && uri !== undefined) addon().print(`${uri}\n`);
  }

  get #uriTls(): UriTls {
    const { certificates, preSharedKeys } = this.#config.tls;
    return { mode: this.#tls.mode, certificates, preSharedKeys };
  }

  #cleanUp(): void {
    if (this.#listeners === undefined) return;
    addon().removeAtForcedEnd([]);
    this.#listeners.cleanUp();
    this.#listeners = undefined;
  }
}

function writePidFile(path: string): void {
  try {
    writeFileSync(path, `${process.pid}\n`, { mode: 0o644 });
  } catch (error) {
    const words = `cannot write the PID file ${path}: ${reasonOf(error)}`;
    throw new AsyncnbdError("FILE_UNWRITABLE", words, { cause: error });
  }
}
