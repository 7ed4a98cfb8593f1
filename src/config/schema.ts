// The shape of a server's configuration, whatever it comes from.

import type { ClientLimits } from "../client-limits.js";
import type { Listen } from "./listeners/index.js";
import type { TlsConfig } from "./tls.js";

export type LogSink = "stderr" | "syslog" | "none" | { readonly file: string };

export interface DebugFlag {
  readonly plugin: string;
  readonly flag: string;
  readonly value: number;
}

export interface Config extends ClientLimits {
  readonly plugin: string; // as given: a short name or a path
  readonly parameters: readonly string[];
  readonly filters: readonly string[]; // by name or path; clients meet the first
  readonly listen: Listen;
  readonly selinuxLabel: string | undefined; // of sockets that are made
  readonly readonly: boolean;
  readonly exportName: string; // for URIs only
  readonly watch: boolean;
  readonly workers: number; // threads of a plugin in TypeScript; 0: the main one
  readonly maxInFlightBytes: number; // of requests, over all connections
  readonly maxConnections: number; // at once; may be Infinity
  readonly handshakeTimeoutMs: number;
  readonly handshakeFlagsMask: number;
  readonly structuredReplies: boolean; // offered
  readonly extendedHeaders: boolean; // offered
  readonly tls: TlsConfig;
  readonly metaContexts: boolean;
  readonly oldstyle: boolean; // that protocol, and no other
  readonly background: boolean;
  readonly runCommand: string | undefined;
  readonly pidFile: string | undefined;
  readonly printUri: boolean;
  readonly exitWithParent: boolean;
  readonly user: string | undefined;
  readonly group: string | undefined;
  readonly verbose: boolean;
  /** Tell of clients that come and go. */
  readonly logClients: boolean;
  readonly log: LogSink | undefined; // undefined: stderr, and syslog in the background
  readonly debugFlags: readonly DebugFlag[];
}
