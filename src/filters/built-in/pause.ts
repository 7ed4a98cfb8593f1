// How an operator stops requests for a while, under nbdkit's parameters.

import { pause } from "../../middleware/index.js";
import { defineFilter } from "../filter.js";

export const pauseFilter = defineFilter({
  name: "pause",
  config: {
    "pause-control": {
      type: "path",
      lastCounts: true,
      description: "Make a unix socket there, which takes p (pause) and r (resume)",
    },
  },
  create: (config) => pause(config["pause-control"]),
});
