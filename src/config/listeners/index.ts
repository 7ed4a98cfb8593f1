// The kinds of listeners there are.

import type { GivenOptions } from "../given-options.js";
import type { OptionSpec } from "../option-spec.js";
import { type ActivatedEndpoint, type ActivatedListen, activated } from "./activated.js";
import type { ListenerKind, SocketRequest, UriAddress } from "./kind.js";
import { type StdioEndpoint, type StdioListen, stdio } from "./stdio.js";
import { type TcpEndpoint, type TcpListen, tcp } from "./tcp.js";
import {
  type PrivateUnixListen,
  privateUnix,
  type UnixEndpoint,
  type UnixListen,
  unix,
} from "./unix.js";
import { type VsockEndpoint, type VsockListen, vsock } from "./vsock.js";

export type Listen =
  | UnixListen
  | PrivateUnixListen
  | TcpListen
  | VsockListen
  | ActivatedListen
  | StdioListen;

/** Where the server can be reached. */
export type Endpoint =
  | UnixEndpoint
  | TcpEndpoint
  | VsockEndpoint
  | ActivatedEndpoint
  | StdioEndpoint;

// biome-ignore lint/suspicious/noExplicitAny: each takes what is of its kind
type AnyKind = ListenerKind<any, any>;

/** Of those that options ask for, the last one counts; a TCP port is what nobody need ask for. */
const KINDS: Readonly<Record<Listen["kind"] | Endpoint["kind"], AnyKind>> = {
  unix,
  tcp,
  "private-unix": privateUnix,
  vsock,
  activated,
  stdio,
};
const ALL: readonly AnyKind[] = Object.values(KINDS);

export const LISTENER_OPTIONS: readonly OptionSpec[] = ALL.flatMap(({ options }) => options);

/** Options that ask for a listener. */
export const ASKING_OPTIONS: readonly string[] = ALL.flatMap(({ askedBy }) => askedBy);

/** Options that cannot be given together. */
export const EXCLUSIVE_OPTIONS: readonly (readonly [string, string])[] = ALL.flatMap(
  ({ askedBy: [own = ""], excludes }) => excludes.map((other) => [own, other] as const),
);

export function parseListen(given: GivenOptions): Listen {
  for (const kind of ALL.toReversed()) {
    const listen: Listen | undefined = kind.parse(given);
    if (listen !== undefined) return listen;
  }
  throw new Error("no kind of listener is the default");
}

/** undefined: it needs something else than a socket of the system. */
export const requestOf = (listen: Listen): SocketRequest<Endpoint> | undefined =>
  KINDS[listen.kind].request(listen);

export const addressOf = (endpoint: Endpoint): UriAddress | undefined =>
  KINDS[endpoint.kind].address(endpoint);
