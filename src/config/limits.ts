// The greatest values that options may have, on the command line or from a program, besides those of
// client-limits.ts.

export const MAX_INT = 2 ** 31 - 1;
export const MAX_PORT = 65535;
export const MAX_WORKERS = 256;
