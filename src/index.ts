// What programs may import from the package.

export { includeDirectory } from "./addon/addon.js";
export type { Logger } from "./addon/log.js";
export type {
  PeerAddress,
  RequestCounts,
  RequestLatencies,
  TransmissionEnd,
} from "./addon/types.js";
export type { ActivatedEndpoint } from "./config/listeners/activated.js";
export type { Endpoint } from "./config/listeners/index.js";
export type { StdioEndpoint } from "./config/listeners/stdio.js";
export type { TcpEndpoint } from "./config/listeners/tcp.js";
export type { UnixEndpoint } from "./config/listeners/unix.js";
export type { VsockEndpoint } from "./config/listeners/vsock.js";
export type { TlsPriority, TlsVersion } from "./config/tls.js";
export { AsyncnbdError, type ErrorCode, type ErrorDetails } from "./errors.js";
export type { FilterChoice } from "./filters/choice.js";
export { defineFilter, type Filter, type FilterDefinition } from "./filters/filter.js";
export type {
  BooleanParameter,
  ConfigOf,
  ConfigSpec,
  EnumParameter,
  NamedParameters,
  NumberParameter,
  ParameterSpec,
  ParameterType,
  SchemaParameter,
  TextParameter,
} from "./plugins/script/config-spec.js";
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
export { allocateDisk } from "./plugins/script/disk-memory.js";
export { failure } from "./plugins/script/errno.js";
export type { ConfigValue, LooseConfig } from "./plugins/script/given-config.js";
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
export type { StandardSchema } from "./plugins/script/standard-schema.js";
export type { NbdServer, ServerEvents } from "./server/nbd-server.js";
export { serve } from "./server/serve.js";
export type { ListenOn, ServeOptions, ServeOptionsFor, ServeTls } from "./server/serve-types.js";
export type { ConnectedClient, DisconnectedClient, OpenedClient } from "./server/server.js";
export type { EndReason, OpenedSession, SessionEnd } from "./server/session.js";
export type {
  ExportStats,
  OperationName,
  OperationStats,
  ServerStats,
} from "./server/statistics.js";
export { version } from "./version.js";
