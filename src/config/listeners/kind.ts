// What there is to say of a kind of listener: to the command line, to the system and to clients.

import type { GivenOptions } from "../given-options.js";
import type { OptionSpec } from "../option-spec.js";

/** What Addon.listen is asked for, and where that can be reached. */
export interface SocketRequest<At> {
  /** As native/transport/listen.cpp takes them for this kind. */
  readonly words: readonly string[];
  /** "cannot listen on …", if the system refuses. */
  readonly failure: string;
  /** `port`: the one that was bound. */
  endpoint(port: number): At;
}

/** The parts of a URI that differ from kind to kind. */
export interface UriAddress {
  /** Behind "nbd" or "nbds". */
  readonly scheme: string;
  readonly authority: string;
  readonly query?: string;
}

/** `Settings`: what is to be listened on; `At`: where that can be reached. */
export interface ListenerKind<Settings, At> {
  /** Of its own, on the command line. */
  readonly options: readonly OptionSpec[];
  /** Those that ask for it. */
  readonly askedBy: readonly string[];
  /** Others that may not be given beside the first of these. */
  readonly excludes: readonly string[];
  /** undefined: the options do not ask for it. */
  parse(given: GivenOptions): Settings | undefined;
  /** undefined: it needs something else than a socket of the system. */
  request(settings: Settings): SocketRequest<At> | undefined;
  /** undefined: clients do not find it by a URI. */
  address(at: At): UriAddress | undefined;
}
