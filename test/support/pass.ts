// Middleware that passes everything on: what is behind it is served through JavaScript.

import { wrapRequests } from "asyncnbd/middleware";

export default wrapRequests("pass", (call) => call.next());
