// Ends the process in bounded time under the addon's watchdog, whatever hangs: a plugin, a lock, a
// thread.

import { addon, loadedAddon } from "../addon/addon.js";

/** JavaScript's thread may be blocked so long before the server is given up. */
const BLOCKED_MS = 5_000;
const BEAT_MS = 1_000;

/** From the last of our work to the end of the process: handlers of exit and destructors. */
const EXIT_MS = 5_000;

/** While the server stops, for as long as that takes, JavaScript's thread must not hang. */
export async function guardStop<T>(forcedStatus: number, stop: () => Promise<T>): Promise<T> {
  const beat = (): void => addon().armWatchdog("stopping", BLOCKED_MS, forcedStatus);
  beat();
  const beats = setInterval(beat, BEAT_MS);
  try {
    return await stop();
  } finally {
    clearInterval(beats);
  }
}

/** The plugin's cleanup and unload, which may have much to do, have as long as its requests. */
export async function guardPluginEnd(
  forcedStatus: number,
  graceMs: number,
  end: () => Promise<void>,
): Promise<void> {
  addon().armWatchdog("plugin", Math.max(graceMs, BLOCKED_MS), forcedStatus);
  await end();
}

/** All is done but what is left to the end of the process. */
export function guardExit(status: number): void {
  loadedAddon()?.armWatchdog("exit", EXIT_MS, status);
}

export function exitNow(status: number): never {
  guardExit(status);
  process.exit(status);
}
