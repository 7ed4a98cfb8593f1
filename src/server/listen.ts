// Opens the sockets that a configuration asks for, and cleans up after them.

import { closeSync, writeFileSync } from "node:fs";
import { addon } from "../addon/addon.js";
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
      "LISTEN",
      `--selinux-label=${label}: the kernel does not take this label for sockets ` +
        `(${(error as NodeJS.ErrnoException).code}): it is none, or SELinux is off`,
    );
  }
  try {
    return make();
  } finally {
    writeFileSync(SOCKET_LABEL, "\n");
  }
}

export function openListeners(listen: Exclude<Listen, { kind: "stdio" }>): OpenListeners {
  switch (listen.kind) {
    case "unix": {
      const fds = listenUnix(listen.path);
      return listenersOn(listen.path, fds, [madeFile(listen.path)]);
    }
    case "private-unix":
      return openPrivate();
    case "tcp":
      return openTcp(listen);
    case "vsock":
      return openVsock(listen.port);
    case "activated":
      return adopt(listen.count);
  }
}

function openPrivate(): OpenListeners {
  const { socketPath, made, unlock } = makePrivateDirectory();
  try {
    const fds = listenUnix(socketPath);
    return listenersOn(socketPath, fds, [madeFile(socketPath), ...made], unlock);
  } catch (error) {
    removeMade(made);
    unlock();
    throw error;
  }
}

function listenUnix(path: string): readonly number[] {
  const listening = addon().listenUnix(path);
  if (listening.fds === undefined)
    throw new AsyncnbdError(
      "LISTEN",
      `cannot listen on the unix socket ${path}: ${listening.error}`,
    );
  if (listening.tookOver) addon().logWarning(`replaced the stale socket ${path}`);
  return listening.fds;
}

function listenersOn(
  path: string,
  fds: readonly number[],
  made: readonly MadeFile[],
  afterwards = () => {},
): OpenListeners {
  const cleanUp = () => {
    removeMade(made);
    afterwards();
  };
  return { fds, endpoint: { kind: "unix", path }, made, cleanUp };
}

function adopt(count: number): OpenListeners {
  const listening = addon().adoptListeners(count);
  if (listening.fds === undefined)
    throw new AsyncnbdError("LISTEN", `socket activation: ${listening.error}`);
  return { fds: listening.fds, endpoint: { kind: "activated" }, ...NOTHING_MADE };
}

function openVsock(port: number): OpenListeners {
  const listening = addon().listenVsock(port);
  if (listening.fds === undefined)
    throw new AsyncnbdError("LISTEN", `cannot listen on vsock port ${port}: ${listening.error}`);
  return { fds: listening.fds, endpoint: { kind: "vsock", port }, ...NOTHING_MADE };
}

function openTcp({ host, port, family }: Extract<Listen, { kind: "tcp" }>): OpenListeners {
  const listening = addon().listenTcp(host, port, family);
  if (listening.fds === undefined)
    throw new AsyncnbdError(
      "LISTEN",
      `cannot listen on ${host === "" ? "all interfaces" : host}, port ${port}: ${listening.error}`,
    );
  return {
    fds: listening.fds,
    endpoint: { kind: "tcp", host: reachableHost(host, family), port: listening.port },
    ...NOTHING_MADE,
  };
}
