// Filters that look at who is there, under nbdkit's names and parameters.

import { exitlast, limit } from "../../middleware/index.js";
import { defineFilter, type Filter } from "../filter.js";

const exitlastFilter = defineFilter({ name: "exitlast", create: () => exitlast() });

const limitFilter = defineFilter({
  name: "limit",
  config: {
    limit: {
      type: "integer",
      default: 1,
      minimum: 0,
      maximum: 2 ** 32 - 1,
      lastCounts: true,
      description: "Clients at once; 0: any number",
    },
  },
  create: (config) => limit(config.limit),
});

export const CLIENT_FILTERS: readonly Filter[] = [exitlastFilter, limitFilter];
