// One client, on standard input and output.

import type { ListenerKind } from "./kind.js";

/** The standard input and output of the server, for one client. */
export interface StdioEndpoint {
  readonly kind: "stdio";
}
export type StdioListen = StdioEndpoint;

export const stdio: ListenerKind<StdioListen, StdioEndpoint> = {
  options: [
    {
      name: "single",
      aliases: ["stdin"],
      short: "s",
      group: "listen",
      help: "Serve one client on standard input and output",
    },
  ],
  askedBy: ["single"],
  excludes: ["run", "unix", "port"],
  parse: (given) => (given.has("single") ? { kind: "stdio" } : undefined),
  request: () => undefined,
  address: () => undefined,
};
