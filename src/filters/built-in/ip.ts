// Where clients may come from, under nbdkit's parameters.

import { ip } from "../../middleware/index.js";
import { defineFilter } from "../filter.js";

const rules = { type: "string", list: true, required: false } as const;

export const ipFilter = defineFilter({
  name: "ip",
  config: {
    allow: {
      ...rules,
      description:
        "Rules, separated by commas, for clients that are accepted: ADDRESS[/BITS], any, …",
    },
    deny: { ...rules, description: "Rules for clients that are refused unless they are allowed" },
  },
  create: ip,
});
