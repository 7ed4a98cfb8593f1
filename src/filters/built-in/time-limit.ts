// How long clients may be there, under nbdkit's parameters.

import { timeLimit } from "../../middleware/index.js";
import { defineFilter } from "../filter.js";

export const timeLimitFilter = defineFilter({
  name: "time-limit",
  config: {
    "time-limit": {
      type: "time",
      default: 60_000,
      minimum: 0,
      maximum: 2 ** 32 - 1,
      lastCounts: true,
      description: "How long a client may have an export open; 0: for ever",
    },
  },
  create: (config) => timeLimit(config["time-limit"]),
});
