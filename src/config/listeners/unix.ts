// A unix socket, at a path or in a directory of its own.

import { resolve } from "node:path";
import { encodePath } from "../uri-parts.js";
import type { ListenerKind } from "./kind.js";
import { tcp } from "./tcp.js";

export interface UnixListen {
  readonly kind: "unix";
  readonly path: string;
}
/** A socket in a directory of its own, removed at the end. */
export interface PrivateUnixListen {
  readonly kind: "private-unix";
}
/** A unix socket, by its path. */
export interface UnixEndpoint {
  readonly kind: "unix";
  readonly path: string;
}

/** For a directory of its own. */
const PRIVATE = "-";

export const unix: ListenerKind<UnixListen, UnixEndpoint> = {
  options: [
    {
      name: "unix",
      short: "U",
      value: "PATH",
      completes: "file",
      group: "listen",
      help: "Listen on a unix socket; - creates a private one",
    },
  ],
  askedBy: ["unix"],
  excludes: ["port"],
  parse: (given) => {
    const path = given.last("unix");
    return path === undefined || path === PRIVATE
      ? undefined
      : { kind: "unix", path: resolve(path) };
  },
  request: ({ path }) => ({
    words: [path],
    failure: `cannot listen on the unix socket ${path}`,
    endpoint: () => ({ kind: "unix", path }),
  }),
  address: ({ path }) => ({
    scheme: "+unix",
    authority: "",
    query: `socket=${encodePath(path)}`,
  }),
};

export const privateUnix: ListenerKind<PrivateUnixListen, never> = {
  options: [],
  askedBy: [],
  excludes: [],
  parse: (given) => {
    const path = given.last("unix");
    // As nbdkit since 1.36: a command needs no port that others could find.
    const isTcp = tcp.askedBy.some((option) => given.has(option));
    const isForCommand = path === undefined && given.has("run") && !isTcp;
    return path === PRIVATE || isForCommand ? { kind: "private-unix" } : undefined;
  },
  request: () => undefined, // once there is a directory, it is one for a unix socket
  address: () => undefined,
};
