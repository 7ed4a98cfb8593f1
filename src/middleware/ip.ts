// The native filter that looks at where clients come from.

import type { Middleware } from "../plugins/script/layer.js";
import { nativeMiddleware } from "./define.js";

/**
 * Rules: "any", "anyipv4", "anyipv6", "anyunix", "anyvsock", an address, "ADDRESS/BITS", "pid:N",
 * "uid:N", "gid:N", "vsock-cid:N" or "vsock-port:N"; several in one text have commas between.
 */
export interface IpOptions {
  readonly allow?: readonly string[];
  readonly deny?: readonly string[];
}

/** A client that a rule of `deny` fits, and none of `allow`, is refused. */
export function ip({ allow = [], deny = [] }: IpOptions): Middleware {
  return nativeMiddleware({ name: "ip", options: { allow, deny } });
}
