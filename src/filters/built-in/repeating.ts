// The filter that tries again what has failed, under nbdkit's name and parameters.

import { retry } from "../../middleware/index.js";
import { defineFilter, type Filter } from "../filter.js";

const delay = {
  type: "time",
  default: 2000,
  minimum: 1,
  maximum: 2 ** 32 - 1,
  lastCounts: true,
} as const;

const retryFilter = defineFilter({
  name: "retry",
  config: {
    retries: {
      type: "integer",
      default: 5,
      minimum: 0,
      maximum: 2 ** 32 - 1,
      lastCounts: true,
      description: "How often the plugin is opened anew for one request",
    },
    "retry-delay": { ...delay, description: "Before the first retry of a request" },
    "retry-exponential": {
      type: "bool",
      default: true,
      lastCounts: true,
      description: "Double the delay after each retry",
    },
    "retry-readonly": {
      type: "bool",
      lastCounts: true,
      description: "Only read once something has failed",
    },
  },
  create: (config) =>
    retry({
      retries: config.retries,
      delayMs: config["retry-delay"],
      exponential: config["retry-exponential"],
      readonly: config["retry-readonly"],
    }),
});

export const REPEATING_FILTERS: readonly Filter[] = [retryFilter];
