// What tests of plugins import, as asyncnbd/testing: a plugin behind a real server and a client, its
// comparison with a model, and faults.

export type { Client, ConnectOptions } from "../client/index.js";
export { type CheckOptions, checkModel } from "./check-model.js";
export {
  type FaultChoice,
  type Faults,
  type FaultyRequest,
  faults,
  type Tear,
} from "./faults.js";
export { ModelError } from "./model-error.js";
export { type Mounted, type MountOptions, mount } from "./mount.js";
export type { Setup, Source, Tested } from "./setup.js";
