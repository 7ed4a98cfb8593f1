// What ends the server, under nbdkit's parameters.

import { exitwhen } from "../../middleware/index.js";
import { defineFilter } from "../filter.js";

const path = { type: "path", list: true, required: false } as const;
const number = { type: "integer", list: true, required: false, minimum: 0 } as const;

export const exitwhenFilter = defineFilter({
  name: "exitwhen",
  config: {
    "exit-when-file-created": { ...path, description: "End when this file exists" },
    "exit-when-file-deleted": { ...path, description: "End when this file does not exist" },
    "exit-when-pipe-closed": {
      ...number,
      aliases: ["exit-when-fd-closed"],
      description: "End when the other end of this descriptor, a pipe or socket, is closed",
    },
    "exit-when-process-exits": {
      ...number,
      aliases: ["exit-when-pid-exits"],
      description: "End when this process has exited",
    },
    "exit-when-script": {
      type: "string",
      list: true,
      required: false,
      description: "End when these shell commands exit with 88",
    },
    "exit-when-poll": {
      type: "integer",
      default: 60,
      minimum: 0,
      maximum: 2 ** 32 - 1,
      lastCounts: true,
      description: "Seconds between checks while no client is connected",
    },
  },
  create: (config) =>
    exitwhen({
      filesCreated: config["exit-when-file-created"],
      filesDeleted: config["exit-when-file-deleted"],
      pipesClosed: config["exit-when-pipe-closed"],
      processesExit: config["exit-when-process-exits"],
      scripts: config["exit-when-script"],
      pollMs: 1000 * config["exit-when-poll"],
    }),
});
