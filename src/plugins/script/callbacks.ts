// The names of a plugin's callbacks, by what they are for.

/** The commands of NBD. */
export type RequestName = "pread" | "pwrite" | "flush" | "trim" | "zero" | "cache" | "extents";

export const REQUEST_NAMES: readonly RequestName[] = [
  "pread",
  "pwrite",
  "flush",
  "trim",
  "zero",
  "cache",
  "extents",
];

/** What is asked of an open export. */
export const QUESTION_NAMES = [
  "exportDescription",
  "getSize",
  "blockSize",
  "canWrite",
  "canFlush",
  "canTrim",
  "canZero",
  "canFastZero",
  "canFua",
  "canCache",
  "canExtents",
  "canMultiConn",
  "isRotational",
] as const;
