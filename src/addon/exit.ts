// The end of a program in which calls of a plugin may still be in progress.

import { isMainThread } from "node:worker_threads";
import { addon } from "./addon.js";

/** Threads may be in a C plugin while the process ends: its code must not be taken away. */
const keepLibraries = (): void => addon().keepLibraries();

/** For a program that may end before its plugins do. Once, however often it is asked for. */
export function keepLibrariesAtExit(): void {
  if (!isMainThread) return; // the process outlives a thread
  process.off("exit", keepLibraries);
  process.on("exit", keepLibraries);
}

const areBusy = new Set<() => boolean>();

const leaveCalls = (): void => {
  if ([...areBusy].some((isBusy) => isBusy())) addon().endWithoutDestructors();
};

/**
 * Until the function is called that this returns: if the process ends while a call of a plugin is in
 * progress, destructors do not destroy what that uses, or wait for it.
 */
export function leaveCallsIf(isBusy: () => boolean): () => void {
  if (areBusy.size === 0) process.on("exit", leaveCalls);
  areBusy.add(isBusy);
  return () => {
    areBusy.delete(isBusy);
    if (areBusy.size === 0) process.off("exit", leaveCalls);
  };
}
