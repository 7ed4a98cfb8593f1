// Ends the process in bounded time under the addon's watchdog, whatever hangs: a plugin, a lock, a
// thread.

import { addon, loadedAddon } from "../addon/addon.js";
import type { OnCall } from "../plugins/life.js";
import { notReturned } from "../server/plugin-end.js";
import { pluginEndMs, stopTimes } from "../server/stop-times.js";

/** JavaScript's thread may be blocked so long before the server is given up. */
const BLOCKED_MS = 5_000;
const BEAT_MS = 1_000;

/** From the last of our work to the end of the process: handlers of exit and destructors. */
const EXIT_MS = 5_000;

/** The end of a server, which its grace bounds from here on. */
export class ServerEnd {
  readonly #forcedStatus: number;
  readonly #graceMs: number;
  readonly #begunMs = performance.now();

  constructor(forcedStatus: number, graceMs: number) {
    this.#forcedStatus = forcedStatus;
    this.#graceMs = graceMs;
  }

  /** As long as that takes, JavaScript's thread must not hang. */
  async guard<T>(stop: () => Promise<T>): Promise<T> {
    const line = "the JavaScript thread is blocked and the server cannot stop: forcing the exit";
    const beat = (): void => addon().armWatchdog(BLOCKED_MS, this.#forcedStatus, line);
    beat();
    const beats = setInterval(beat, BEAT_MS);
    try {
      return await stop();
    } finally {
      clearInterval(beats);
    }
  }

  /** A plugin that has not started yet gets the grace to finish that. */
  guardStart(name: string): void {
    const ms = stopTimes(this.#graceMs).endMs;
    const line = `${notReturned(`${name}: afterFork`, ms)}: forcing the exit`;
    addon().armWatchdog(ms, this.#forcedStatus, line);
  }

  /** The plugin's cleanup and unload have what requests have left of the grace. */
  async guardPlugin(name: string, end: (onCall: OnCall) => Promise<void>): Promise<void> {
    const ms = pluginEndMs(this.#graceMs, this.#begunMs);
    const endMs = performance.now() + ms;
    const onCall: OnCall = (call) => {
      const leftMs = Math.max(Math.ceil(endMs - performance.now()), 0);
      const line = `${notReturned(call, ms)}: forcing the exit`;
      addon().armWatchdog(leftMs, this.#forcedStatus, line);
    };
    onCall(`${name}: cleanup or unload`);
    await end(onCall);
  }
}

/** All is done but what is left to the end of the process. */
export function guardExit(status: number): void {
  const line =
    "the process did not exit, possibly because of a plugin's threads or destructors: forcing the exit";
  loadedAddon()?.armWatchdog(EXIT_MS, status, line);
}

/** Calls of a plugin may be in progress: only JavaScript's own handlers of the exit run. */
export function exitNow(status: number): never {
  guardExit(status);
  process.once("exit", () => addon().endNow(status));
  process.exit(status);
}
