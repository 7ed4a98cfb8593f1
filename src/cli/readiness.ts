// A server in the background: how it takes leave of its launcher (background.ts), and tells it that
// clients can connect.

import { closeSync, writeSync } from "node:fs";
import { addon } from "../addon/addon.js";

/** Tells the server which descriptor to write to when it is ready. */
export const READY_FD_VARIABLE = "ASYNCNBD_READY_FD";

/** How to tell the launcher, and undefined if there is none. */
export function takeReadiness(): number | undefined {
  const text = process.env[READY_FD_VARIABLE];
  // Commands that a plugin starts must not take themselves for the child.
  delete process.env[READY_FD_VARIABLE];
  return text === undefined ? undefined : Number(text);
}

/** Leaves the launcher's terminal and directory, before the server's last preparations. */
export function detach(keepsStderr: boolean): void {
  addon().becomeSessionLeader();
  process.chdir("/");
  if (!keepsStderr) addon().silenceStderr();
}

export function announceReady(fd: number): void {
  writeSync(fd, "1");
  closeSync(fd);
}
