// The NBD URI under which a client finds the server.

/** Where the server can be reached. */
export type Endpoint =
  | { readonly kind: "unix"; readonly path: string }
  | { readonly kind: "tcp"; readonly port: number }
  | { readonly kind: "activated" } // whoever has made the sockets knows
  | { readonly kind: "stdio" };

export const DEFAULT_PORT = 10809;

const percentEncode = (text: string): string =>
  encodeURIComponent(text).replace(
    /[!'()*]/g,
    (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`,
  );

/** Percent-encoded, except for the slashes. */
const encodePath = (text: string): string => text.split("/").map(percentEncode).join("/");

/** undefined where the client needs none. */
export function uriOf(endpoint: Endpoint, exportName: string): string | undefined {
  const path = exportName === "" ? "" : `/${encodePath(exportName)}`;
  switch (endpoint.kind) {
    case "unix":
      return `nbd+unix://${path}?socket=${encodePath(endpoint.path)}`;
    case "tcp": {
      const port = endpoint.port === DEFAULT_PORT ? "" : `:${endpoint.port}`;
      return `nbd://localhost${port}${path}`;
    }
    default:
      return undefined;
  }
}
