// A port of vsock, for virtual machines and their host.

import { integer } from "../given-options.js";
import { DEFAULT_PORT, portSuffix } from "../uri-parts.js";
import type { ListenerKind } from "./kind.js";

/** An AF_VSOCK port of this machine, for its host and other virtual machines. */
export interface VsockEndpoint {
  readonly kind: "vsock";
  readonly port: number;
}
export type VsockListen = VsockEndpoint;

/** The highest is the system's word for any. */
const MAX_VSOCK_PORT = 2 ** 32 - 2;

/** For clients on this machine, as those of --run are. */
const THIS_MACHINE_CID = 1;

export const vsock: ListenerKind<VsockListen, VsockEndpoint> = {
  options: [
    {
      name: "vsock",
      group: "listen",
      help: "Listen on a vsock port, for virtual machines and their host, instead of TCP",
    },
  ],
  askedBy: ["vsock"],
  excludes: ["unix", "single"],
  parse: (given) =>
    given.has("vsock")
      ? { kind: "vsock", port: integer(given, "port", 0, MAX_VSOCK_PORT) ?? DEFAULT_PORT }
      : undefined,
  request: ({ port }) => ({
    words: [String(port)],
    failure: `cannot listen on vsock port ${port}`,
    endpoint: () => ({ kind: "vsock", port }),
  }),
  address: ({ port }) => ({
    scheme: "+vsock",
    authority: `${THIS_MACHINE_CID}${portSuffix(port)}`,
  }),
};
