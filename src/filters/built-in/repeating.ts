// Filters that try again what has failed, under nbdkit's names and parameters.

import { retry, retryRequest } from "../../middleware/index.js";
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
      description: "How often the plugin is reopened for one request",
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
      description: "Reopen read-only after a failure",
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

const retryRequestFilter = defineFilter({
  name: "retry-request",
  config: {
    "retry-request-retries": {
      type: "integer",
      default: 2,
      minimum: 0,
      maximum: 1000,
      lastCounts: true,
      description: "How often one request is tried again",
    },
    "retry-request-delay": { ...delay, description: "Before each retry" },
    "retry-request-open": {
      type: "bool",
      default: true,
      lastCounts: true,
      description: "Try again to open the plugin, too",
    },
  },
  create: (config) =>
    retryRequest({
      retries: config["retry-request-retries"],
      delayMs: config["retry-request-delay"],
      opens: config["retry-request-open"],
    }),
});

export const REPEATING_FILTERS: readonly Filter[] = [retryFilter, retryRequestFilter];
