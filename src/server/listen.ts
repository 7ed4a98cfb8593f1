// Opens the sockets that a configuration asks for, and cleans up after them.

import { closeSync, writeFileSync } from "node:fs";
import { addon } from "../addon/addon.js";
import { type Log, processLog } from "../addon/log.js";
import type { MadeFile } from "../addon/types.js";
import { type Endpoint, type Listen, requestOf } from "../config/listeners/index.js";
import { AsyncnbdError } from "../errors.js";
import { madeFile, removeMade } from "./made-files.js";
import { makePrivateDirectory } from "./private-directory.js";

export interface OpenListeners {
  readonly fds: readonly number[];
  readonly endpoint: Endpoint;
  /** What listening has made in the file system. */
  readonly made: readonly MadeFile[];
  /** Removes that. */
  cleanUp(): void;
}

/** Of a server that has not come to accept clients. */
export function abandon(listeners: OpenListeners): void {
  for (const fd of listeners.fds) closeSync(fd);
  listeners.cleanUp();
}

/** Where the kernel takes the label of sockets that a thread makes; an empty line: the usual one. */
const SOCKET_LABEL = "/proc/thread-self/attr/sockcreate";

/** Makes sockets with a label of SELinux. */
export function labelled<T>(label: string | undefined, make: () => T): T {
  if (label === undefined) return make();
  try {
    writeFileSync(SOCKET_LABEL, label);
  } catch (error) {
    throw new AsyncnbdError(
      "LISTEN_FAILED",
      `--selinux-label=${label}: the kernel does not take this label for sockets ` +
        `(${(error as NodeJS.ErrnoException).code}): it is not a valid label, or SELinux is off`,
      { cause: error },
    );
  }
  try {
    return make();
  } finally {
    writeFileSync(SOCKET_LABEL, "\n");
  }
}

export function openListeners(
  listen: Exclude<Listen, { kind: "stdio" }>,
  log: Log = processLog,
): OpenListeners {
  if (listen.kind === "private-unix") return openPrivate(log);
  if (listen.kind === "unix") return openUnix(listen.path, log);
  const { fds, endpoint } = bind(listen);
  return { fds, endpoint, made: [], cleanUp: () => {} };
}

interface Bound {
  readonly fds: readonly number[];
  readonly endpoint: Endpoint;
  /** A unix socket of the same path on which nobody listened any more. */
  readonly tookOver: boolean;
}

function bind(listen: Listen): Bound {
  const request = requestOf(listen);
  if (request === undefined) throw new Error(`${listen.kind} has no socket of the system`);
  const { words, failure } = request;
  const listening = addon().listen(listen.kind, ...words);
  if (listening.fds === undefined)
    throw new AsyncnbdError("LISTEN_FAILED", `${failure}: ${listening.error}`);
  const { fds, port, tookOver } = listening;
  return { fds, endpoint: request.endpoint(port), tookOver };
}

/** `others`: what was made for it; `afterwards`: when that has been removed. */
function openUnix(
  path: string,
  log: Log,
  others: readonly MadeFile[] = [],
  afterwards = () => {},
): OpenListeners {
  const { fds, endpoint, tookOver } = bind({ kind: "unix", path });
  if (tookOver) log.warn(`replaced the stale socket ${path}`);
  const made = [madeFile(path), ...others];
  const cleanUp = () => {
    removeMade(made, log);
    afterwards();
  };
  return { fds, endpoint, made, cleanUp };
}

function openPrivate(log: Log): OpenListeners {
  const { socketPath, made, unlock } = makePrivateDirectory(log);
  try {
    return openUnix(socketPath, log, made, unlock);
  } catch (error) {
    removeMade(made, log);
    unlock();
    throw error;
  }
}
