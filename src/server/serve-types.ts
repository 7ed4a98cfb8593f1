// What a program gives serve().

import type { Logger } from "../addon/log.js";
import type { ServeLimits } from "../client-limits.js";
import type { TlsPriority } from "../config/tls.js";
import type { FilterChoice } from "../filters/choice.js";
import type { FilterDefinition } from "../filters/filter.js";
import type { Plugin, PluginDefinition } from "../plugins/script/definition.js";
import type { GivenConfig, LooseConfig, NoParameters } from "../plugins/script/given-config.js";

/** A unix socket, a TCP port (0: any free one), or nothing: then only `connect` brings clients. */
export type ListenOn =
  | { readonly unix: string }
  | { readonly port: number; readonly host?: string }
  | "private-unix"
  | "nothing";

/** By declarations where they are known; plugins and filters that are named take anything. */
type PluginPart<P> =
  P extends PluginDefinition<infer Spec, infer _Handle> ? GivenConfig<Spec> : LooseConfig;
type FilterPart<F> = F extends string
  ? LooseConfig
  : F extends FilterDefinition<infer Spec>
    ? GivenConfig<Spec>
    : unknown; // middleware has none
type OfAll<F> = (F extends unknown ? (part: FilterPart<F>) => void : never) extends (
  part: infer Parts,
) => void
  ? Parts
  : never;
type ConfigFor<P, F> = unknown extends PluginPart<P> & OfAll<F>
  ? NoParameters
  : PluginPart<P> & OfAll<F>;
type ConfigOption<Config> =
  Record<never, never> extends Config ? { readonly config?: Config } : { readonly config: Config };

/** ServeOptions of a plugin and filters whose parameters the compiler knows. */
export type ServeOptionsFor<P extends Plugin | string, F extends readonly FilterChoice[]> = Omit<
  ServeOptions,
  "plugin" | "filters" | "config"
> & {
  readonly plugin: P;
  readonly filters?: F;
} & ConfigOption<ConfigFor<P, F[number]>>;

export interface ServeOptions extends Partial<ServeLimits> {
  /** A plugin object, or what the command takes: a C plugin's name or path, or a module's. */
  readonly plugin: Plugin | string;
  /** The plugin's parameters; an array for one that may be given more than once. */
  readonly config?: LooseConfig;
  /** In front of the plugin, in TypeScript or in C: clients meet the first. */
  readonly filters?: readonly FilterChoice[];
  /** By default a unix socket of its own that nobody but this user can reach. */
  readonly listen?: ListenOn;
  readonly readonly?: boolean;
  /**
   * Loads the module of a plugin in TypeScript, which is given by its path, again when it or another
   * module of its folder changes: see the events `reload` and `reloadError`.
   */
  readonly watch?: boolean;
  /** Closes the server when it fires; while it starts, serve() rejects with the signal's reason. */
  readonly signal?: AbortSignal;
  /**
   * Threads for a plugin in TypeScript that is given as a path or a package: each has an instance
   * of it and a share of the clients. By default none: all is on the calling thread.
   */
  readonly workers?: number;
  /** Of requests in flight on all connections. By default 1 GiB. */
  readonly maxInFlightBytes?: number;
  /** By default none is offered. */
  readonly tls?: ServeTls;
  /** At once; others wait until one leaves. By default as many as the system has descriptors for. */
  readonly maxConnections?: number;
  /** How long a handshake may take. By default 30 s. */
  readonly handshakeTimeoutMs?: number;
  /**
   * Gets all lines of this server and its plugin, and standard error none: pino, console, or what
   * else has `debug`, `info`, `warn` and `error`. Each is called with one string.
   */
  readonly logger?: Logger;
  /** What getStats() tells: "latency": also how long requests take. By default "counts". */
  readonly stats?: "counts" | "latency";
}

/** Encryption: by certificates, or by pre-shared keys. */
export interface ServeTls {
  /** "on": where clients want it. By default "require". */
  readonly mode?: "on" | "require";
  /** A directory with ca-cert.pem, server-cert.pem, server-key.pem and perhaps ca-crl.pem. */
  readonly certificates?: string;
  /** A file with lines of USER:KEY, in hexadecimal digits, instead of certificates. */
  readonly preSharedKeys?: string;
  /** Clients must have a certificate of an authority in ca-cert.pem. */
  readonly verifyPeer?: boolean;
  readonly priority?: TlsPriority;
}
