// What becomes of flushes where clients use several connections, under nbdkit's parameters.

import { multiConn } from "../../middleware/index.js";
import { defineFilter } from "../filter.js";

export const multiConnFilter = defineFilter({
  name: "multi-conn",
  config: {
    "multi-conn-mode": {
      type: "enum",
      values: ["auto", "emulate", "plugin", "disable", "unsafe"],
      default: "auto",
      lastCounts: true,
      description: "Whether clients may use several connections, with flushes for all of them",
    },
    "multi-conn-track-dirty": {
      type: "enum",
      values: ["connection", "conn", "fast", "off"],
      default: "connection",
      lastCounts: true,
      description: "What decides whether a flush is needed",
    },
    "multi-conn-exportname": {
      type: "bool",
      lastCounts: true,
      aliases: ["multi-conn-export-name"],
      description: "Only clients of the same export name belong together",
    },
  },
  create: (config) => {
    const trackDirty = config["multi-conn-track-dirty"];
    return multiConn({
      mode: config["multi-conn-mode"],
      trackDirty: trackDirty === "conn" ? "connection" : trackDirty,
      byExportName: config["multi-conn-exportname"],
    });
  },
});
