// The NBD URI under which a client finds the server.

import { addressOf, type Endpoint } from "./listeners/index.js";
import type { TlsMode } from "./tls.js";
import { encodePath } from "./uri-parts.js";

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
  const address = addressOf(endpoint);
  if (address === undefined) return undefined;
  const scheme = (tls.mode === "require" ? "nbds" : "nbd") + address.scheme;
  const path = exportName === "" ? "" : `/${encodePath(exportName)}`;
  const queries = [address.query, tlsQuery(tls)].filter((query) => query !== undefined);
  const query = queries.length === 0 ? "" : `?${queries.join("&")}`;
  return `${scheme}://${address.authority}${path}${query}`;
}

function tlsQuery({ mode, certificates, preSharedKeys }: UriTls): string | undefined {
  if (mode !== "require") return undefined;
  if (preSharedKeys !== undefined) return `tls-psk-file=${encodePath(preSharedKeys)}`;
  return certificates === undefined ? undefined : `tls-certificates=${encodePath(certificates)}`;
}
