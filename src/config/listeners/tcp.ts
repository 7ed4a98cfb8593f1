// A TCP port, on some or all addresses.

import { UsageError } from "../../errors.js";
import { MAX_PORT } from "../limits.js";
import { DEFAULT_PORT, portSuffix } from "../uri-parts.js";
import type { ListenerKind } from "./kind.js";

export interface TcpListen {
  readonly kind: "tcp";
  readonly host: string; // "": all interfaces
  readonly port: string; // a number or a service name
  readonly family: 0 | 4 | 6;
}
/** A TCP port, on an address that clients on this machine can reach. */
export interface TcpEndpoint {
  readonly kind: "tcp";
  readonly host: string; // a name or an address
  readonly port: number;
}

/** Where clients on this machine find what listens on a host, or "" for all interfaces. */
export function reachableHost(host: string, family: 0 | 4 | 6): string {
  const isAny = ["", "0.0.0.0", "::", "*"].includes(host);
  if (!isAny) return host;
  return family === 6 || host === "::" ? "::1" : "localhost";
}

/** IPv6 addresses stand in brackets, a zone's "%" is encoded: RFC 3986 and 6874. */
const uriHost = (host: string): string =>
  host.includes(":") ? `[${host.replace("%", "%25")}]` : host;

/** A number, or a service's name. The system takes the numbers modulo 65536, and "" for none. */
function parsePort(text: string): string {
  const isNumber = /^\s*[+-]?\d+$/.test(text);
  if (text === "" || (isNumber && !(Number(text) >= 0 && Number(text) <= MAX_PORT)))
    throw new UsageError(`--port=${text} is not a port: use 0 to ${MAX_PORT}, or a service's name`);
  return text;
}

export const tcp: ListenerKind<TcpListen, TcpEndpoint> = {
  options: [
    {
      name: "port",
      short: "p",
      value: "PORT",
      group: "listen",
      help: "TCP port or service, 10809 by default; 0 takes any free one and prints its URI",
    },
    {
      name: "ipaddr",
      aliases: ["ip-addr"],
      short: "i",
      value: "ADDRESS",
      group: "listen",
      help: "Listen on this address only",
    },
    { name: "ipv4-only", short: "4", group: "listen", help: "Listen on IPv4 only" },
    { name: "ipv6-only", short: "6", group: "listen", help: "Listen on IPv6 only" },
  ],
  askedBy: ["port", "ipaddr"],
  excludes: [],
  parse: (given) => {
    if (given.has("unix")) return undefined;
    const family = given.lastOf("ipv4-only", "ipv6-only");
    return {
      kind: "tcp",
      host: given.last("ipaddr") ?? "",
      port: parsePort(given.last("port") ?? String(DEFAULT_PORT)),
      family: family === "ipv4-only" ? 4 : family === "ipv6-only" ? 6 : 0,
    };
  },
  request: ({ host, port, family }) => ({
    words: [host, port, String(family)],
    failure: `cannot listen on ${host === "" ? "all interfaces" : host}, port ${port}`,
    endpoint: (bound) => ({ kind: "tcp", host: reachableHost(host, family), port: bound }),
  }),
  address: ({ host, port }) => ({ scheme: "", authority: uriHost(host) + portSuffix(port) }),
};
