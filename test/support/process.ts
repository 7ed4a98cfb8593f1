// What the system knows about a running process.

import { readdirSync, readFileSync } from "node:fs";

export const openDescriptors = (pid: number): number => readdirSync(`/proc/${pid}/fd`).length;

export const threadCount = (pid: number): number => readdirSync(`/proc/${pid}/task`).length;

/** Resident memory in KiB. */
export function residentKib(pid: number): number {
  const match = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"));
  return Number(match?.[1]);
}
