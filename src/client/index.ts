// The NBD client: what programs may import as asyncnbd/client. It loads no native code.

export type { BlockStatusOptions, Extent } from "./block-status.js";
export type {
  Client,
  ReadOptions,
  RequestOptions,
  WriteOptions,
  ZeroOptions,
} from "./client.js";
export {
  type ConnectOptions,
  connect,
  type ExportInfo,
  exportInfo,
  listExports,
  type ServerOptions,
} from "./connect.js";
export type { ReconnectPolicy } from "./dispatcher.js";
export {
  ConnectionError,
  NbdError,
  type OptionErrorCode,
  type RequestErrorCode,
} from "./errors.js";
export type { BlockSizes, Capabilities, ExportFacts, ReplyStyle } from "./facts.js";
export type { ListedExport } from "./negotiate.js";
export { ProtocolError, RULES, type RuleName } from "./rules.js";
export type { PairServer, Target, TargetObject } from "./target.js";
export type { ClientTls } from "./tls.js";
