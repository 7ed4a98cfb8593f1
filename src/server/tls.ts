// Finds and loads certificates and keys, in nbdkit's places.

import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { addon } from "../addon/addon.js";
import { type Log, processLog } from "../addon/log.js";
import type { TlsConfig, TlsMode } from "../config/tls.js";
import { AsyncnbdError } from "../errors.js";

export const SYSTEM_CERTIFICATES = "/etc/pki/nbdkit";

export interface OpenTls {
  readonly mode: TlsMode;
  /** The native half's number for what was loaded; any thread of this process may use it. */
  readonly context: number | undefined;
}

export const NO_TLS: OpenTls = { mode: "off", context: undefined };

/** Where certificates are looked for, if no directory is given. */
function certificateDirectories(): string[] {
  if (process.getuid?.() === 0) return [SYSTEM_CERTIFICATES];
  return [join(homedir(), ".pki/nbdkit"), join(homedir(), ".config/pki/nbdkit")];
}

const FILES = {
  caCertificates: "ca-cert.pem",
  certificate: "server-cert.pem",
  key: "server-key.pem",
};

const missingIn = (directory: string): string[] =>
  Object.values(FILES).filter((file) => !existsSync(join(directory, file)));

function load(config: TlsConfig, files: object): number {
  const { verifyPeer, priority } = config;
  const loaded = addon().loadTls({ verifyPeer, ...priority, ...files });
  if (typeof loaded === "string") throw new AsyncnbdError("TLS_UNUSABLE", loaded);
  return loaded;
}

/** Throws if TLS is required and there is nothing to do it with, or if files are wrong. */
export function openTls(config: TlsConfig, log: Log = processLog): OpenTls {
  const { mode, preSharedKeys } = config;
  if (mode === "off") return NO_TLS;
  if (preSharedKeys !== undefined)
    return { mode: mode ?? "on", context: load(config, { preSharedKeys }) };

  const searched =
    config.certificates === undefined ? certificateDirectories() : [config.certificates];
  const directory = searched.find((one) => missingIn(one).length === 0);
  if (directory !== undefined) {
    const files = Object.entries(FILES).map(([key, file]) => [key, join(directory, file)]);
    const revocations = join(directory, "ca-crl.pem");
    const all = {
      ...Object.fromEntries(files),
      ...(existsSync(revocations) && { revocations }),
    };
    return { mode: mode ?? "on", context: load(config, all) };
  }
  if (mode === undefined && config.certificates === undefined) return NO_TLS;
  const missing = searched.map((one) => `${one} has no ${missingIn(one).join(", ")}`).join("; ");
  if (mode === "require")
    throw new AsyncnbdError(
      "TLS_UNUSABLE",
      `TLS is required, but there are no certificates: ${missing}; ` +
        "give --tls-certificates=DIR or --tls-psk=FILE " +
        "(in a program, tls.certificates or tls.preSharedKeys)",
    );
  log.warn(`TLS is disabled because there are no certificates: ${missing}`);
  return NO_TLS;
}

export function closeTls({ context }: OpenTls): void {
  if (context !== undefined) addon().dropTls(context);
}
