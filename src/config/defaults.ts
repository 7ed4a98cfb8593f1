// Defaults of options, on the command line and of serve().

export const DEFAULT_THREADS = 16; // as nbdkit's
export const DEFAULT_HANDSHAKE_TIMEOUT_MS = 30_000;
export const DEFAULT_SPIN_MS = 0.05;
export const DEFAULT_MAX_IN_FLIGHT_BYTES = 2 ** 30;
export const DEFAULT_MAX_CONNECTION_IN_FLIGHT_BYTES = 2 ** 28;
export const DEFAULT_GRACE_MS = 30_000;
export const DEFAULT_STALL_TIMEOUT_MS = 300_000;
export const ALL_HANDSHAKE_FLAGS = 0xffff;
