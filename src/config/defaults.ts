// Defaults of options, on the command line and of serve(), besides those of client-limits.ts.

export const DEFAULT_HANDSHAKE_TIMEOUT_MS = 30_000;
export const DEFAULT_MAX_IN_FLIGHT_BYTES = 2 ** 30;
export const ALL_HANDSHAKE_FLAGS = 0xffff;
