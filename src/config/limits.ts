// The greatest values that options may have, on the command line or from a program.

export const MAX_INT = 2 ** 31 - 1;
export const MAX_PORT = 65535;
export const MAX_WORKERS = 256;
export const MAX_GRACE_MS = 24 * 3600 * 1000;
export const MAX_STALL_TIMEOUT_MS = 24 * 3600 * 1000;
