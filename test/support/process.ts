// What the system knows about a running process.

import { readdirSync, readFileSync } from "node:fs";

export const openDescriptors = (pid: number): number => readdirSync(`/proc/${pid}/fd`).length;

export const threadCount = (pid: number): number => readdirSync(`/proc/${pid}/task`).length;

/** Whether none of its threads runs or sleeps any more; one that ends meanwhile does not. */
export const isStopped = (pid: number): boolean =>
  readdirSync(`/proc/${pid}/task`).every((thread) => {
    try {
      return /^State:\s+T/m.test(readFileSync(`/proc/${pid}/task/${thread}/status`, "utf8"));
    } catch {
      return true;
    }
  });

/** Resident memory in KiB. */
export function residentKib(pid: number): number {
  const match = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"));
  return Number(match?.[1]);
}

/** One that has ended is not, though nobody may fetch its status: not every machine's first process does. */
export function isRunning(pid: number): boolean {
  try {
    return !/^\d+ \(.*\) Z/.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return false;
  }
}
