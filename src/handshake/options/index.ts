// The options this server answers; all others get NBD_REP_ERR_UNSUP.

import {
  NBD_OPT_ABORT,
  NBD_OPT_EXPORT_NAME,
  NBD_OPT_EXTENDED_HEADERS,
  NBD_OPT_GO,
  NBD_OPT_INFO,
  NBD_OPT_LIST,
  NBD_OPT_LIST_META_CONTEXT,
  NBD_OPT_SET_META_CONTEXT,
  NBD_OPT_STARTTLS,
  NBD_OPT_STRUCTURED_REPLY,
} from "../../protocol.js";
import { abort } from "./abort.js";
import { exportName } from "./export-name.js";
import { extendedHeaders } from "./extended-headers.js";
import { infoOrGo } from "./info-or-go.js";
import { list } from "./list.js";
import { metaContext } from "./meta-context.js";
import type { OptionHandler } from "./option.js";
import { startTls } from "./start-tls.js";
import { structuredReply } from "./structured-reply.js";

export const optionHandlers: ReadonlyMap<number, OptionHandler> = new Map([
  [NBD_OPT_EXPORT_NAME, exportName],
  [NBD_OPT_ABORT, abort],
  [NBD_OPT_LIST, list],
  [NBD_OPT_STARTTLS, startTls],
  [NBD_OPT_INFO, infoOrGo],
  [NBD_OPT_GO, infoOrGo],
  [NBD_OPT_STRUCTURED_REPLY, structuredReply],
  [NBD_OPT_LIST_META_CONTEXT, metaContext],
  [NBD_OPT_SET_META_CONTEXT, metaContext],
  [NBD_OPT_EXTENDED_HEADERS, extendedHeaders],
]);
