// Filters that show an export as another part of itself, or protect parts, under nbdkit's names and parameters.

import { parseExactSize } from "../../config/size.js";
import { AsyncnbdError } from "../../errors.js";
import { offset, partition, protect, truncate } from "../../middleware/index.js";
import { defineFilter, type Filter } from "../filter.js";
import { powerOfTwo } from "./power-of-two.js";

const size = { type: "string", required: false, lastCounts: true } as const;
const unit = { ...size, type: "size", minimum: 1, maximum: 2 ** 32 - 1 } as const;
const MOST_BYTES = 2n ** 63n - 1n;

/** Of a disk as large as there are, which a number does not hold. */
function sizeOf(key: string, given: string): bigint {
  const bytes = parseExactSize(given);
  if (bytes === undefined || bytes > MOST_BYTES)
    throw new AsyncnbdError(
      "PARAMETER_INVALID",
      `parameter ${key}=${given}: not a size: use a number and k, m, g, t, p or e, up to 2^63-1`,
    );
  return bytes;
}

const offsetFilter = defineFilter({
  name: "offset",
  config: {
    offset: { ...size, description: "Where the part begins (default 0)" },
    range: { ...size, description: "Its length (default all that is left)" },
  },
  create: ({ offset: begin, range }) =>
    offset({
      ...(begin !== undefined && { offset: sizeOf("offset", begin) }),
      ...(range !== undefined && { range: sizeOf("range", range) }),
    }),
});

function sectorBytes(value: number): 512 | 4096 {
  if (value === 512 || value === 4096) return value;
  throw new AsyncnbdError(
    "PARAMETER_INVALID",
    `parameter partition-sectorsize=${value}: use 512 or 4096`,
  );
}

const partitionFilter = defineFilter({
  name: "partition",
  config: {
    partition: {
      type: "integer",
      minimum: 1,
      maximum: 2 ** 32 - 1,
      lastCounts: true,
      description: "Number of the partition; of an MBR, logical ones from 5 on",
    },
    "partition-sectorsize": {
      type: "size",
      default: 512,
      lastCounts: true,
      description: "Size of the disk's sectors, 512 or 4096",
    },
  },
  create: (config) =>
    partition(config.partition, { sectorBytes: sectorBytes(config["partition-sectorsize"]) }),
});

const truncateFilter = defineFilter({
  name: "truncate",
  config: {
    truncate: { ...size, description: "The size (default the plugin's)" },
    "round-up": { ...unit, description: "Make it a multiple of this, a power of two, and larger" },
    "round-down": {
      ...unit,
      description: "Make it a multiple of this, a power of two, and smaller",
    },
  },
  create: (config) =>
    truncate({
      ...(config.truncate !== undefined && { size: sizeOf("truncate", config.truncate) }),
      roundUp: powerOfTwo("round-up", config["round-up"] ?? 1),
      roundDown: powerOfTwo("round-down", config["round-down"] ?? 1),
    }),
});

const protectFilter = defineFilter({
  name: "protect",
  config: {
    protect: {
      type: "string",
      list: true,
      required: false,
      description: "FIRST-LAST, bytes that cannot change; ~FIRST-LAST: all but those",
    },
  },
  create: (config) => protect(...config.protect),
});

export const RANGE_FILTERS: readonly Filter[] = [
  offsetFilter,
  partitionFilter,
  protectFilter,
  truncateFilter,
];
