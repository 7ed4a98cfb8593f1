// Opens the sockets that a configuration asks for, and cleans up after them.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { addon } from "../addon/load.js";
import type { Listen } from "../config/schema.js";
import type { Endpoint } from "../config/uri.js";
import { AsyncnbdError, messageOf } from "../errors.js";

export interface OpenListeners {
  readonly fds: readonly number[];
  readonly endpoint: Endpoint;
  /** Removes the socket from the file system. */
  cleanUp(): void;
}

export function openListeners(listen: Exclude<Listen, { kind: "stdio" }>): OpenListeners {
  switch (listen.kind) {
    case "unix":
      return openUnix(listen.path, listen.path);
    case "private-unix": {
      // mkdtemp's mode is 0700: nobody else can reach the socket.
      const directory = mkdtempSync(join(tmpdir(), "asyncnbd"));
      return openUnix(join(directory, "socket"), directory);
    }
    case "tcp":
      return openTcp(listen);
    case "vsock":
      return openVsock(listen.port);
    case "activated":
      return adopt(listen.count);
  }
}

function openUnix(path: string, toRemove: string): OpenListeners {
  const listening = addon().listenUnix(path);
  if (listening.fds === undefined)
    throw new AsyncnbdError(
      "LISTEN",
      `cannot listen on the unix socket ${path}: ${listening.error}`,
    );
  addon().removeAtForcedEnd(path === toRemove ? [path] : [path, toRemove]);
  return {
    fds: listening.fds,
    endpoint: { kind: "unix", path },
    cleanUp: () => remove(toRemove),
  };
}

/** A server that has become another user may be unable to: not worth failing for. */
function remove(path: string): void {
  try {
    rmSync(path, { force: true, recursive: true });
  } catch (error) {
    addon().logWarning(`cannot remove ${path}: ${messageOf(error)}`);
  }
}

function adopt(count: number): OpenListeners {
  const listening = addon().adoptListeners(count);
  if (listening.fds === undefined)
    throw new AsyncnbdError("LISTEN", `socket activation: ${listening.error}`);
  return { fds: listening.fds, endpoint: { kind: "activated" }, cleanUp: () => {} };
}

function openVsock(port: number): OpenListeners {
  const listening = addon().listenVsock(port);
  if (listening.fds === undefined)
    throw new AsyncnbdError("LISTEN", `cannot listen on vsock port ${port}: ${listening.error}`);
  return { fds: listening.fds, endpoint: { kind: "vsock", port }, cleanUp: () => {} };
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
    endpoint: { kind: "tcp", port: listening.port },
    cleanUp: () => {},
  };
}
