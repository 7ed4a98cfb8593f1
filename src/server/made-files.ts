// What the server has made in the file system, remembered by device and inode: at the end it
// removes that, and never what has come to lie at the same path.

import { lstatSync, rmdirSync, unlinkSync } from "node:fs";
import type { Log } from "../addon/log.js";
import type { MadeFile } from "../addon/types.js";
import { messageOf } from "../errors.js";

/** What has just been made at `path`. */
export function madeFile(path: string): MadeFile {
  const { dev, ino } = lstatSync(path, { bigint: true });
  return { path, device: dev, inode: ino };
}

/** Files, and directories if they are empty by then. */
export function removeMade(files: readonly MadeFile[], log: Log): void {
  for (const { path, device, inode } of files)
    try {
      const found = lstatSync(path, { bigint: true, throwIfNoEntry: false });
      if (found === undefined || found.dev !== device || found.ino !== inode) continue;
      if (found.isDirectory()) rmdirSync(path);
      else unlinkSync(path);
    } catch (error) {
      // A server that has become another user may be unable to: not worth failing for.
      log.warn(`cannot remove ${path}: ${messageOf(error)}`);
    }
}
