// What the system knows about a running process.

import { readdirSync, readFileSync } from "node:fs";

export const openDescriptors = (pid: number): number => readdirSync(`/proc/${pid}/fd`).length;

export const threadCount = (pid: number): number => readdirSync(`/proc/${pid}/task`).length;

/** "R": runs; "S": sleeps; "T": is stopped; … */
export const threadStates = (pid: number): string[] =>
  readdirSync(`/proc/${pid}/task`).map((thread) => {
    const status = readFileSync(`/proc/${pid}/task/${thread}/status`, "utf8");
    return /^State:\s+(\S)/m.exec(status)?.[1] ?? "";
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
