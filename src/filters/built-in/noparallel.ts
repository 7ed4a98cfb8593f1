// How much is done at once, under nbdkit's parameters.

import { noparallel } from "../../middleware/index.js";
import { SERIALIZED_MODELS } from "../../middleware/noparallel.js";
import { defineFilter } from "../filter.js";

type Serialize = keyof typeof SERIALIZED_MODELS;

/** nbdkit's other word for it. */
const meant = (word: Serialize | "all_requests"): Serialize =>
  word === "all_requests" ? "all-requests" : word;

export const noparallelFilter = defineFilter({
  name: "noparallel",
  config: {
    serialize: {
      type: "enum",
      values: ["requests", "all-requests", "all_requests", "connections"],
      default: "requests",
      lastCounts: true,
      aliases: ["serialise"],
      description: "One at a time: of a client's requests, of all requests, or of clients",
    },
  },
  threadModel: ({ serialize }) => SERIALIZED_MODELS[meant(serialize)],
  create: ({ serialize }) => noparallel({ serialize: meant(serialize) }),
});
