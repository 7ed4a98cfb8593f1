// What programs may import from the package.

export { includeDirectory } from "./addon/addon.js";
export type { RequestCounts } from "./addon/types.js";
export type { TlsPriority, TlsVersion } from "./config/tls.js";
export type { Endpoint } from "./config/uri.js";
export { AsyncnbdError, type ErrorCode } from "./errors.js";
export type { FilterChoice } from "./filters/choice.js";
export { defineFilter, type Filter, type FilterDefinition } from "./filters/filter.js";
export {
  definePlugin,
  type ListedExport,
  type MetaContext,
  type Plugin,
  type PluginContext,
  type PluginDefinition,
  type PluginLog,
  type ThreadModelName,
} from "./plugins/script/definition.js";
export { failure } from "./plugins/script/errno.js";
export type {
  BooleanParameter,
  ConfigOf,
  ConfigSpec,
  EnumParameter,
  NumberParameter,
  ParameterSpec,
  ParameterType,
  TextParameter,
} from "./plugins/script/parameters.js";
export type {
  Awaitable,
  BlockSize,
  ClientInfo,
  Extent,
  ExtentsInfo,
  OpenInfo,
  RequestInfo,
  Status,
  Support,
  WriteInfo,
  ZeroInfo,
} from "./plugins/script/requests.js";
export {
  type ConfigValue,
  type ListenOn,
  type NbdServer,
  type ServeOptions,
  type ServerEvents,
  type ServerStats,
  type ServeTls,
  serve,
} from "./server/serve.js";
export { version } from "./version.js";
