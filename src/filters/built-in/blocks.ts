// Filters that make requests fit the plugin, or ask it ahead, under nbdkit's names and parameters.

import { AsyncnbdError } from "../../errors.js";
import { blocksize, cacheextents, readahead } from "../../middleware/index.js";
import { defineFilter, type Filter } from "../filter.js";
import { powerOfTwo } from "./power-of-two.js";

const size = { type: "size", required: false, lastCounts: true, minimum: 1 } as const;

function multipleOf(minBlock: number | undefined, key: string, value: number): number {
  if (minBlock !== undefined && value % minBlock !== 0)
    throw new AsyncnbdError(
      "PARAMETER_INVALID",
      `parameter ${key}=${value}: must be a multiple of minblock, which is ${minBlock}`,
    );
  return value;
}

const blocksizeFilter = defineFilter({
  name: "blocksize",
  config: {
    minblock: {
      ...size,
      maximum: 65536,
      description: "Size of the blocks that the plugin takes, a power of two (default its own)",
    },
    maxdata: {
      ...size,
      maximum: 2 ** 32 - 1,
      description: "Longest read, write or request to cache (default 64M)",
    },
    maxlen: {
      ...size,
      maximum: 2 ** 32 - 1,
      description: "Longest trim or zeroing (default 4G less a block)",
    },
  },
  create: ({ minblock, maxdata, maxlen }) =>
    blocksize({
      ...(minblock !== undefined && { minBlock: powerOfTwo("minblock", minblock) }),
      ...(maxdata !== undefined && { maxData: multipleOf(minblock, "maxdata", maxdata) }),
      ...(maxlen !== undefined && { maxLength: multipleOf(minblock, "maxlen", maxlen) }),
    }),
});

const cacheextentsFilter = defineFilter({ name: "cacheextents", create: () => cacheextents() });

const readaheadFilter = defineFilter({ name: "readahead", create: () => readahead() });

export const BLOCK_FILTERS: readonly Filter[] = [
  blocksizeFilter,
  cacheextentsFilter,
  readaheadFilter,
];
