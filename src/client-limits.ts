// What a server does for one client, and for how long: the one table of these limits. The command
// line and programs set them, and native/nbd obeys them.

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
  readonly byDefault: number;
  readonly minimum: number;
  readonly maximum: number;
}

const DAY_MS = 24 * 3600 * 1000;

export const CLIENT_LIMITS: Readonly<Record<keyof ClientLimits, Limit>> = {
  threads: {
    option: "threads",
    unit: "calls",
    byDefault: 16, // as nbdkit's
    minimum: 1,
    maximum: 2 ** 31 - 1,
  },
  spinUs: { option: "spin", unit: "us", byDefault: 50, minimum: 0, maximum: 10_000 },
  graceMs: { option: "grace", unit: "ms", byDefault: 30_000, minimum: 0, maximum: DAY_MS },
  stallTimeoutMs: {
    option: "stall-timeout",
    unit: "ms",
    byDefault: 300_000,
    minimum: 0,
    maximum: DAY_MS,
  },
  maxConnectionInFlightBytes: {
    option: "max-connection-in-flight",
    unit: "bytes",
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
