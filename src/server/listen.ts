// Opens the sockets that a configuration asks for, and cleans up after them.

import { closeSync, writeFileSync } from "node:fs";
import { addon } from "../addon/addon.js";
import { type Log, processLog } from "../addon/log.js";
import type { MadeFile } from "../addon/types.js";
import type { Listen } from "../config/schema.js";
import { type Endpoint, reachableHost } from "../config/uri.js";
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

const NOTHING_MADE = { made: [], cleanUp: () => {} };

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
  switch (listen.kind) {
    case "unix": {
      const fds = listenUnix(listen.path, log);
      return listenersOn(listen.path, fds, [madeFile(listen.path)], log);
    }
    case "private-unix":
      return openPrivate(log);
    case "tcp":
      return openTcp(listen);
    case "vsock":
      return openVsock(listen.port);
    case "activated":
      return adopt(listen.count);
  }
}

function openPrivate(log: Log): OpenListeners {
  const { socketPath, made, unlock } = makePrivateDirectory(log);
  try {
    const fds = listenUnix(socketPath, log);
    return listenersOn(socketPath, fds, [madeFile(socketPath), ...made], log, unlock);
  } catch (error) {
    removeMade(made, log);
    unlock();
    throw error;
  }
}

function listenUnix(path: string, log: Log): readonly number[] {
  const listening = addon().listenUnix(path);
  if (listening.fds === undefined)
    throw new AsyncnbdError(
      "LISTEN_FAILED",
      `cannot listen on the unix socket ${path}: ${listening.error}`,
    );
  if (listening.tookOver) log.warn(`replaced the stale socket ${path}`);
  return listening.fds;
}

function listenersOn(
  path: string,
  fds: readonly number[],
  made: readonly MadeFile[],
  log: Log,
  afterwards = () => {},
): OpenListeners {
  const cleanUp = () => {
    removeMade(made, log);
    afterwards();
  };
  return { fds, endpoint: { kind: "unix", path }, made, cleanUp };
}

function adopt(count: number): OpenListeners {
  const listening = addon().adoptListeners(count);
  if (listening.fds === undefined)
    throw new AsyncnbdError("LISTEN_FAILED", `socket activation: ${listening.error}`);
  return { fds: listening.fds, endpoint: { kind: "activated" }, ...NOTHING_MADE };
}

function openVsock(port: number): OpenListeners {
  const listening = addon().listenVsock(port);
  if (listening.fds === undefined)
    throw new AsyncnbdError(
      "LISTEN_FAILED",
      `cannot listen on vsock port ${port}: ${listening.error}`,
    );
  return { fds: listening.fds, endpoint: { kind: "vsock", port }, ...NOTHING_MADE };
}

function openTcp({ host, port, family }: Extract<Listen, { kind: "tcp" }>): OpenListeners {
  const listening = addon().listenTcp(host, port, family);
  if (listening.fds === undefined)
    throw new AsyncnbdError(
      "LISTEN_FAILED",
      `cannot listen on ${host === "" ? "all interfaces" : host}, port ${port}: ${listening.error}`,
    );
  return {
    fds: listening.fds,
    endpoint: { kind: "tcp", host: reachableHost(host, family), port: listening.port },
    ...NOTHING_MADE,
  };
}
