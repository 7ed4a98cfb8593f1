// Filters that change what clients may ask of an export, under nbdkit's names and parameters.

import { extentlist, fua, nocache, noextents, nozero } from "../../middleware/index.js";
import { defineFilter, type Filter } from "../filter.js";

const nozeroFilter = defineFilter({
  name: "nozero",
  config: {
    zeromode: {
      type: "enum",
      values: ["none", "emulate", "notrim", "plugin"],
      default: "none",
      lastCounts: true,
      description: "How zeroing is done",
    },
    fastzeromode: {
      type: "enum",
      values: ["default", "none", "slow", "ignore"],
      default: "default",
      lastCounts: true,
      description: "How fast zeroing is done",
    },
  },
  create: ({ zeromode, fastzeromode }) => nozero({ mode: zeromode, fast: fastzeromode }),
});

const noextentsFilter = defineFilter({ name: "noextents", create: () => noextents() });

const extentlistFilter = defineFilter({
  name: "extentlist",
  config: { extentlist: { type: "path", description: "A file that lists the extents" } },
  create: (config) => extentlist(config.extentlist),
});

const nocacheFilter = defineFilter({
  name: "nocache",
  config: {
    cachemode: {
      type: "enum",
      values: ["none", "emulate", "nop", "no-op"],
      default: "none",
      lastCounts: true,
      description: "How caching is done",
    },
  },
  create: ({ cachemode }) => nocache({ mode: cachemode === "no-op" ? "nop" : cachemode }),
});

const fuaFilter = defineFilter({
  name: "fua",
  config: {
    fuamode: {
      type: "enum",
      values: ["none", "emulate", "native", "force", "pass", "discard"],
      default: "none",
      lastCounts: true,
      description: "How FUA is done",
    },
  },
  create: ({ fuamode }) => fua({ mode: fuamode }),
});

export const CAPABILITY_FILTERS: readonly Filter[] = [
  extentlistFilter,
  fuaFilter,
  nocacheFilter,
  noextentsFilter,
  nozeroFilter,
];
