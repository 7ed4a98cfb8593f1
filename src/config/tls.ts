// TLS settings of the options and of serve(); server/tls.ts finds and loads the files.

import { UsageError } from "../errors.js";

/** The specification's modes NOTLS, SELECTIVETLS and FORCEDTLS. */
export type TlsMode = "off" | "on" | "require";

export interface TlsConfig {
  /** undefined: "on" if there is what it needs, else "off". */
  readonly mode: TlsMode | undefined;
  /** A directory with ca-cert.pem, server-cert.pem, server-key.pem and perhaps ca-crl.pem. */
  readonly certificates: string | undefined;
  /** A file with lines of USER:KEY, which takes the place of certificates. */
  readonly preSharedKeys: string | undefined;
  /** Clients must have a certificate of an authority in ca-cert.pem. */
  readonly verifyPeer: boolean;
  readonly priority: TlsPriority;
}

/** Versions and ciphers; what is undefined is OpenSSL's choice. */
export interface TlsPriority {
  readonly minVersion?: TlsVersion;
  readonly maxVersion?: TlsVersion;
  /** Of TLS 1.2. */
  readonly ciphers?: string;
  /** Of TLS 1.3. */
  readonly cipherSuites?: string;
}

export type TlsVersion = "TLSv1.2" | "TLSv1.3";

const MODES: Readonly<Record<string, TlsMode>> = {
  off: "off",
  "0": "off",
  false: "off",
  f: "off",
  no: "off",
  n: "off",
  on: "on",
  "1": "on",
  true: "on",
  t: "on",
  yes: "on",
  y: "on",
  require: "require",
  required: "require",
  force: "require",
};

export function parseTlsMode(text: string): TlsMode {
  const mode = MODES[text.toLowerCase()];
  if (mode === undefined) throw new UsageError(`--tls=${text}: use off, on or require`);
  return mode;
}

const GNUTLS_LEVELS: Readonly<Record<string, string | undefined>> = {
  NORMAL: undefined,
  SECURE128: "HIGH:@SECLEVEL=2",
  SECURE192: "HIGH:@SECLEVEL=4",
  SECURE256: "HIGH:@SECLEVEL=5",
};

/** --tls-priority: the versions and levels of GnuTLS, as nbdkit has them; or OpenSSL's ciphers. */
export function parseTlsPriority(text: string): TlsPriority {
  const [level = "", ...rest] = text.split(":");
  if (level in GNUTLS_LEVELS) return parseGnutls(text, level, rest);
  const names = text.split(":").filter((name) => name !== "");
  if (names.length === 0) throw new UsageError("--tls-priority needs cipher names");
  const suites = names.filter((name) => name.startsWith("TLS_"));
  const ciphers = names.filter((name) => !name.startsWith("TLS_"));
  return {
    ...(suites.length > 0 && { cipherSuites: suites.join(":") }),
    ...(ciphers.length > 0 && { ciphers: ciphers.join(":") }),
    // Ciphers of one version only mean that version.
    ...(suites.length === 0 && { maxVersion: "TLSv1.2" as const }),
    ...(ciphers.length === 0 && { minVersion: "TLSv1.3" as const }),
  };
}

function parseGnutls(text: string, level: string, changes: readonly string[]): TlsPriority {
  const versions = new Set<TlsVersion>(["TLSv1.2", "TLSv1.3"]);
  for (const change of changes) {
    const [, sign, version] = /^([-+!])VERS-(ALL|TLS-ALL|TLS1\.2|TLS1\.3)$/.exec(change) ?? [];
    if (version === undefined)
      throw new UsageError(
        `--tls-priority=${text}: ${change} is not supported; of the GnuTLS words, use NORMAL, ` +
          "SECURE128, SECURE192 or SECURE256, with changes of VERS-TLS1.2 and VERS-TLS1.3",
      );
    const meant: TlsVersion[] = version.endsWith("ALL")
      ? ["TLSv1.2", "TLSv1.3"]
      : [version === "TLS1.2" ? "TLSv1.2" : "TLSv1.3"];
    for (const one of meant) sign === "+" ? versions.add(one) : versions.delete(one);
  }
  const [minVersion] = [...versions].sort();
  const maxVersion = [...versions].sort().at(-1);
  if (minVersion === undefined || maxVersion === undefined)
    throw new UsageError(`--tls-priority=${text} disables all TLS versions`);
  const ciphers = GNUTLS_LEVELS[level];
  return { minVersion, maxVersion, ...(ciphers !== undefined && { ciphers }) };
}
