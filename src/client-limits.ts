// What a server does for one client, and for how long: the one table of these limits. The command
// line and programs set them; native/nbd/client_limits.hpp has them for what obeys them.

export interface ClientLimits {
  /** Calls of a C plugin in progress at once on a connection. By default 16. */
  readonly threads: number;
  /** How long an idle connection looks for requests before it sleeps, in microseconds. */
  readonly spinUs: number;
  /** How long requests without an answer delay the end of a connection. By default 30 s. */
  readonly graceMs: number;
  /**
   * How long a client may send next to nothing of a request that it has begun, or take next to
   * nothing of its replies. By default 5 min; 0 for ever.
   */
  readonly stallTimeoutMs: number;
  /** Of a connection's requests in flight. By default 256 MiB. */
  readonly maxConnectionInFlightBytes: number;
}

/** What programs may set of them. */
export type ServeLimits = Omit<ClientLimits, "spinUs">;

export interface Limit {
  /** Its name on the command line, where a time is given with a unit. */
  readonly option: string;
  readonly unit: "calls" | "us" | "ms" | "bytes";
  readonly short?: string;
  /** For --help. */
  readonly help: string;
  /** nbdkit has the option, too. */
  readonly isOfNbdkit?: true;
  readonly byDefault: number;
  readonly minimum: number;
  readonly maximum: number;
}

const DAY_MS = 24 * 3600 * 1000;

export const CLIENT_LIMITS: Readonly<Record<keyof ClientLimits, Limit>> = {
  threads: {
    option: "threads",
    short: "t",
    unit: "calls",
    help: "Requests in progress per connection, if the plugin allows several; 16 by default",
    isOfNbdkit: true,
    byDefault: 16, // as nbdkit's
    minimum: 1,
    maximum: 2 ** 31 - 1,
  },
  spinUs: {
    option: "spin",
    unit: "us",
    help: "How long an idle connection polls before it sleeps, 50us by default; 0 disables polling",
    byDefault: 50,
    minimum: 0,
    maximum: 10_000,
  },
  graceMs: {
    option: "grace",
    unit: "ms",
    help: "How long a closing connection waits for unanswered requests, 30s by default",
    byDefault: 30_000,
    minimum: 0,
    maximum: DAY_MS,
  },
  stallTimeoutMs: {
    option: "stall-timeout",
    unit: "ms",
    help: "How long a client may leave a request half-sent, or its replies unread, 300s by default; 0 disables the limit. While others wait for its memory, 10s at most",
    byDefault: 300_000,
    minimum: 0,
    maximum: DAY_MS,
  },
  maxConnectionInFlightBytes: {
    option: "max-connection-in-flight",
    unit: "bytes",
    help: "Memory limit for one client's requests in progress, 256M by default",
    byDefault: 2 ** 28,
    minimum: 1,
    maximum: Number.MAX_SAFE_INTEGER,
  },
};

/** Something of each. */
export function ofEachLimit<Value>(
  make: (limit: Limit, name: keyof ClientLimits) => Value,
): Record<keyof ClientLimits, Value> {
  const made = Object.entries(CLIENT_LIMITS).map(([name, limit]) => [
    name,
    make(limit, name as keyof ClientLimits),
  ]);
  return Object.fromEntries(made) as Record<keyof ClientLimits, Value>;
}

export type GivenLimits = {
  readonly [Name in keyof ClientLimits]?: ClientLimits[Name] | undefined;
};

/** Those that are given, whatever else is, and the defaults of others. */
export function clientLimits(given: GivenLimits): ClientLimits {
  return ofEachLimit(({ byDefault }, name) => given[name] ?? byDefault);
}
