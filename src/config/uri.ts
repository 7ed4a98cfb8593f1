// The NBD URI under which a client finds the server.

import type { TlsMode } from "./tls.js";

/** Where the server can be reached. */
export type Endpoint =
  | { readonly kind: "unix"; readonly path: string }
  | { readonly kind: "tcp"; readonly host: string; readonly port: number } // a name or an address
  | { readonly kind: "vsock"; readonly port: number }
  | { readonly kind: "activated" } // whoever has made the sockets knows
  | { readonly kind: "stdio" };

export const DEFAULT_PORT = 10809;

/** For clients on this machine, as those of --run are. */
const THIS_MACHINE_CID = 1;

const percentEncode = (text: string): string =>
  encodeURIComponent(text).replace(
    /[!'()*]/g,
    (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`,
  );

/** Percent-encoded, except for the slashes. */
const encodePath = (text: string): string => text.split("/").map(percentEncode).join("/");

/** IPv6 addresses stand in brackets, a zone's "%" is encoded: RFC 3986 and 6874. */
const uriHost = (host: string): string =>
  host.includes(":") ? `[${host.replace("%", "%25")}]` : host;

/** Where clients on this machine find what listens on a host, or "" for all interfaces. */
export function reachableHost(host: string, family: 0 | 4 | 6): string {
  const isAny = ["", "0.0.0.0", "::", "*"].includes(host);
  if (!isAny) return host;
  return family === 6 || host === "::" ? "::1" : "localhost";
}

/** What a client must know of the encryption; nothing where it may do without. */
export interface UriTls {
  readonly mode: TlsMode;
  readonly certificates?: string | undefined;
  readonly preSharedKeys?: string | undefined;
}

/** undefined where the client needs none. */
export function uriOf(
  endpoint: Endpoint,
  exportName: string,
  tls: UriTls = { mode: "off" },
): string | undefined {
  const scheme = tls.mode === "require" ? "nbds" : "nbd";
  const files =
    tls.mode !== "require"
      ? []
      : tls.preSharedKeys !== undefined
        ? [`tls-psk-file=${encodePath(tls.preSharedKeys)}`]
        : tls.certificates !== undefined
          ? [`tls-certificates=${encodePath(tls.certificates)}`]
          : [];
  const query = (...more: string[]): string => {
    const all = [...more, ...files];
    return all.length === 0 ? "" : `?${all.join("&")}`;
  };
  const path = exportName === "" ? "" : `/${encodePath(exportName)}`;
  switch (endpoint.kind) {
    case "unix":
      return `${scheme}+unix://${path}${query(`socket=${encodePath(endpoint.path)}`)}`;
    case "tcp": {
      const port = endpoint.port === DEFAULT_PORT ? "" : `:${endpoint.port}`;
      return `${scheme}://${uriHost(endpoint.host)}${port}${path}${query()}`;
    }
    case "vsock": {
      const port = endpoint.port === DEFAULT_PORT ? "" : `:${endpoint.port}`;
      return `${scheme}+vsock://${THIS_MACHINE_CID}${port}${path}${query()}`;
    }
    default:
      return undefined;
  }
}
