// Which exports there are for clients, under nbdkit's parameters.

import { AsyncnbdError } from "../../errors.js";
import { exportname } from "../../middleware/index.js";
import { defineFilter } from "../filter.js";

const text = { type: "string", required: false, lastCounts: true } as const;

/** "default-only" is nbdkit's other word. */
const LISTS = ["keep", "error", "empty", "defaultonly", "default-only", "explicit"] as const;

function checkedDescription(given: string): string {
  if (/^(keep|none)$|^(fixed|script):/.test(given)) return given;
  throw new AsyncnbdError(
    "PARAMETER_INVALID",
    `parameter exportdesc=${given}: use keep, none, fixed:TEXT or script:COMMANDS`,
  );
}

export const exportnameFilter = defineFilter({
  name: "exportname",
  config: {
    "default-export": {
      ...text,
      aliases: ["default_export"],
      description: 'What a client gets that asks for ""',
    },
    "exportname-list": {
      type: "enum",
      values: LISTS,
      default: "keep",
      lastCounts: true,
      aliases: ["exportname_list"],
      description: "The answer to clients that list exports",
    },
    "exportname-strict": {
      type: "bool",
      lastCounts: true,
      aliases: ["exportname_strict"],
      description: "Refuse other names than those of exportname=",
    },
    exportname: { type: "string", required: false, list: true, description: "An export's name" },
    exportdesc: {
      type: "string",
      default: "keep",
      lastCounts: true,
      description: "Descriptions: keep, none, fixed:TEXT, or script:COMMANDS that print one",
    },
  },
  create: (config) => {
    const list = config["exportname-list"];
    const defaultExport = config["default-export"];
    return exportname({
      ...(defaultExport !== undefined && { defaultExport }),
      list: list === "default-only" ? "defaultonly" : list,
      isStrict: config["exportname-strict"],
      names: config.exportname,
      description: checkedDescription(config.exportdesc),
    });
  },
});
