// What a server does for one client, and for how long: set on the command line or by a program, and
// obeyed by native/nbd.

export interface ClientLimits {
  /** Calls of a C plugin in progress at once, if it can take more than one. */
  readonly threads: number;
  /** How long an idle connection looks for requests before it sleeps, in microseconds. */
  readonly spinUs: number;
  /** How long requests without an answer delay the end of a connection. */
  readonly graceMs: number;
  /** How long it may send or take next to nothing; 0: for ever. */
  readonly stallTimeoutMs: number;
  /** Of its requests in flight. */
  readonly maxConnectionInFlightBytes: number;
}

export const DEFAULT_CLIENT_LIMITS: ClientLimits = {
  threads: 16, // as nbdkit's
  spinUs: 50,
  graceMs: 30_000,
  stallTimeoutMs: 300_000,
  maxConnectionInFlightBytes: 2 ** 28,
};

export type GivenLimits = {
  readonly [Limit in keyof ClientLimits]?: ClientLimits[Limit] | undefined;
};

/** Those that are given, whatever else is, and the defaults of others. */
export function clientLimits(given: GivenLimits): ClientLimits {
  const limits = Object.entries(DEFAULT_CLIENT_LIMITS).map(([limit, byDefault]) => [
    limit,
    given[limit as keyof ClientLimits] ?? byDefault,
  ]);
  return Object.fromEntries(limits) as ClientLimits;
}
