// A directory for a socket that only this user can reach. Servers that were killed leave theirs
// behind; the next one clears them away.

import {
  closeSync,
  constants,
  fstatSync,
  mkdtempSync,
  openSync,
  readdirSync,
  rmdirSync,
  unlinkSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { addon } from "../addon/addon.js";
import type { Log } from "../addon/log.js";
import type { MadeFile } from "../addon/types.js";
import { AsyncnbdError, reasonOf } from "../errors.js";
import { madeFile } from "./made-files.js";

const PREFIX = "asyncnbd";
const SOCKET = "socket";
/** Locked by the server as long as it lives. A process ID would say nothing in another container. */
const LOCK = "lock";

/** Others may be making theirs. */
const ABANDONED_AFTER_MS = 60_000;

/** sun_path, without the terminator. */
const MAX_SOCKET_PATH_BYTES = 107;
const RANDOM_LETTERS = 6;

export interface PrivateDirectory {
  readonly socketPath: string;
  /** The lock and the directory, in the order in which they can be removed. */
  readonly made: readonly MadeFile[];
  /** After they have been removed. */
  unlock(): void;
}

export function makePrivateDirectory(log: Log): PrivateDirectory {
  const path = makeDirectory(log);
  const made = [madeFile(path)];
  const fd = openSync(join(path, LOCK), "wx", 0o600);
  addon().tryLock(fd);
  made.unshift(madeFile(join(path, LOCK)));
  return { socketPath: join(path, SOCKET), made, unlock: () => closeSync(fd) };
}

/** In TMPDIR, or in /tmp where the socket's path would be too long or there is no such directory. */
function makeDirectory(log: Log): string {
  const chosen = resolve(tmpdir()); // programs that are told of it may run elsewhere
  const sample = join(chosen, PREFIX + "X".repeat(RANDOM_LETTERS), SOCKET);
  if (Buffer.byteLength(sample) <= MAX_SOCKET_PATH_BYTES)
    try {
      return makeDirectoryIn(chosen);
    } catch (error) {
      log.warn(`TMPDIR=${chosen}: ${reasonOf(error)}; using /tmp instead`);
    }
  try {
    return makeDirectoryIn("/tmp");
  } catch (error) {
    throw new AsyncnbdError(
      "LISTEN_FAILED",
      `cannot create a directory for the socket in /tmp: ${reasonOf(error)}`,
      { cause: error },
    );
  }
}

function makeDirectoryIn(parent: string): string {
  clearAbandoned(parent);
  return mkdtempSync(join(parent, PREFIX)); // with mode 0700
}

/** Removes directories of this user's servers that have been killed. */
function clearAbandoned(parent: string): void {
  const pattern = new RegExp(`^${PREFIX}[A-Za-z0-9]{${RANDOM_LETTERS}}$`);
  try {
    for (const name of readdirSync(parent)) if (pattern.test(name)) clear(join(parent, name));
  } catch {
    // It cannot be listed, so nothing can be removed.
  }
}

function clear(path: string): void {
  const { O_DIRECTORY, O_NOFOLLOW, O_RDONLY } = constants;
  const open: number[] = [];
  try {
    const directory = openSync(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    open.push(directory);
    const { uid, mtimeMs } = fstatSync(directory);
    if (uid !== process.geteuid?.() || mtimeMs > Date.now() - ABANDONED_AFTER_MS) return;
    // Through the descriptor, so that all this is one directory whatever happens to the path.
    const inside = `/proc/self/fd/${directory}`;
    if (readdirSync(inside).some((name) => name !== SOCKET && name !== LOCK)) return;
    const lock = openSync(join(inside, LOCK), O_RDONLY | O_NOFOLLOW);
    open.push(lock);
    if (!addon().tryLock(lock)) return;
    removeIfThere(join(inside, SOCKET));
    unlinkSync(join(inside, LOCK));
    rmdirSync(path);
  } catch {
    // Another server has removed it already, or it is not one of ours.
  } finally {
    for (const fd of open) closeSync(fd);
  }
}

function removeIfThere(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
}
