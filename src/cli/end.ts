// The bounds of the process's end: whatever hangs, a plugin, a lock or a thread, it comes.

import { addon, loadedAddon } from "../addon/addon.js";

/** JavaScript's thread may be blocked so long before the server is given up. */
const BLOCKED_MS = 5_000;
const BEAT_MS = 1_000;

/** From the last of our work to the end of the process: handlers of exit and destructors. */
const EXIT_MS = 5_000;

/** While the server stops, for as long as that takes, JavaScript's thread must not be stuck. */
export async function watchStop<T>(forcedStatus: number, stop: () => Promise<T>): Promise<T> {
  const beat = (): void => addon().watchEnd("stopping", BLOCKED_MS, forcedStatus);
  beat();
  const beats = setInterval(beat, BEAT_MS);
  try {
    return await stop();
  } finally {
    clearInterval(beats);
  }
}

/** The plugin's cleanup and unload, which may have much to do, have as long as its requests. */
export async function watchPluginEnd(
  forcedStatus: number,
  graceMs: number,
  end: () => Promise<void>,
): Promise<void> {
  addon().watchEnd("plugin", Math.max(graceMs, BLOCKED_MS), forcedStatus);
  await end();
}

/** All is done but what is left to the end of the process. */
export function watchExit(status: number): void {
  loadedAddon()?.watchEnd("exit", EXIT_MS, status);
}

export function exitNow(status: number): never {
  watchExit(status);
  process.exit(status);
}
