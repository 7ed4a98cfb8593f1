// Where a server is: an NBD URI, or an object that says it.

import { DEFAULT_PORT } from "../config/uri-parts.js";
import type { ClientTls } from "./tls.js";

/** A server of `serve()` in this process; anything that hands out a connected descriptor. */
export interface PairServer {
  connectPair(): number;
}

/**
 * A unix socket's path; a host and a port (10809 by default); a descriptor of a connected socket,
 * which the client takes over; or a server in this process.
 */
export type TargetObject =
  | { readonly path: string }
  | { readonly host: string; readonly port?: number }
  | { readonly fd: number }
  | { readonly server: PairServer };

/** An NBD URI, as a text or URL, or an object. */
export type Target = string | URL | TargetObject;

/** What a target says. */
export interface Place {
  readonly where: TargetObject;
  readonly exportName: string | undefined;
  /** undefined: not said. */
  readonly tls: ClientTls | undefined;
  /** For messages. */
  readonly name: string;
}

const SCHEMES: Readonly<Record<string, { kind: "tcp" | "unix" | "vsock"; tls: boolean }>> = {
  "nbd:": { kind: "tcp", tls: false },
  "nbds:": { kind: "tcp", tls: true },
  "nbd+unix:": { kind: "unix", tls: false },
  "nbds+unix:": { kind: "unix", tls: true },
  "nbd+vsock:": { kind: "vsock", tls: false },
  "nbds+vsock:": { kind: "vsock", tls: true },
};

/** Whether a text is meant as a URI of NBD, and not as a file's name. */
export const isNbdUri = (text: string): boolean => /^nbds?(\+[a-z]+)?:/i.test(text);

export function placeOf(target: Target): Place {
  if (typeof target === "string" || target instanceof URL) return placeOfUri(String(target));
  if (typeof target !== "object" || target === null)
    throw new TypeError("connect: the target must be an NBD URI or an object");
  return { where: target, exportName: undefined, tls: undefined, name: nameOf(target) };
}

function nameOf(where: TargetObject): string {
  if ("path" in where) return where.path;
  if ("host" in where) return `${where.host}:${where.port ?? DEFAULT_PORT}`;
  if ("fd" in where) return `descriptor ${where.fd}`;
  if ("server" in where) return "the server in this process";
  throw new TypeError("connect: the target needs a path, a host, an fd or a server");
}

function placeOfUri(text: string): Place {
  let uri: URL;
  try {
    uri = new URL(text);
  } catch {
    throw new TypeError(`"${text}" is not a URI`);
  }
  const scheme = SCHEMES[uri.protocol];
  if (scheme === undefined)
    throw new TypeError(
      `"${text}": ${uri.protocol} is not an NBD scheme; use nbd:, nbds:, nbd+unix: or nbds+unix:`,
    );
  return {
    where: whereOf(uri, scheme.kind, text),
    exportName: decodeURIComponent(uri.pathname.replace(/^\//, "")),
    tls: scheme.tls ? tlsOf(uri) : undefined,
    name: text,
  };
}

function whereOf(uri: URL, kind: "tcp" | "unix" | "vsock", text: string): TargetObject {
  if (kind === "vsock")
    throw new TypeError(`"${text}": Node.js has no vsock sockets; give a connected descriptor`);
  if (kind === "tcp") {
    if (uri.hostname === "") throw new TypeError(`"${text}" has no host`);
    const host = decodeURIComponent(uri.hostname.replace(/^\[(.*)\]$/, "$1"));
    return { host, port: uri.port === "" ? DEFAULT_PORT : Number(uri.port) };
  }
  const path = uri.searchParams.get("socket");
  if (path === null || path === "")
    throw new TypeError(`"${text}" needs the socket's path: nbd+unix:///EXPORT?socket=PATH`);
  return { path };
}

function tlsOf(uri: URL): ClientTls {
  const certificates = uri.searchParams.get("tls-certificates");
  const preSharedKeys = uri.searchParams.get("tls-psk-file");
  const hostname = uri.searchParams.get("tls-hostname");
  return {
    ...(certificates !== null && { certificates }),
    ...(preSharedKeys !== null && { preSharedKeys }),
    ...(hostname !== null && { serverName: hostname }),
    ...(uri.username !== "" && { username: decodeURIComponent(uri.username) }),
  };
}
