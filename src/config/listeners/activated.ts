// Sockets that somebody else has made, such as systemd: the first is descriptor 3.

import type { ListenerKind } from "./kind.js";

export interface ActivatedListen {
  readonly kind: "activated";
  readonly count: number;
}
/** Sockets that a service manager has made, which knows where they are. */
export interface ActivatedEndpoint {
  readonly kind: "activated";
}

export const activated: ListenerKind<ActivatedListen, ActivatedEndpoint> = {
  options: [],
  askedBy: [],
  excludes: [],
  parse: () => undefined, // the environment asks for it
  request: ({ count }) => ({
    words: [String(count)],
    failure: "socket activation",
    endpoint: () => ({ kind: "activated" }),
  }),
  address: () => undefined,
};
