// What servers need for TLS.

import { execFileSync } from "node:child_process";
import { copyFileSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A certificate that has signed itself. Returns the directory that it is in. */
export function makeCertificates() {
  const directory = mkdtempSync(join(tmpdir(), "asyncnbd-bench-"));
  const path = (/** @type {string} */ name) => join(directory, name);
  const files = ["-keyout", path("server-key.pem"), "-out", path("server-cert.pem")];
  const request = [
    "-x509",
    "-newkey",
    "rsa:2048",
    "-nodes",
    "-days",
    "2",
    "-subj",
    "/CN=localhost",
  ];
  execFileSync("openssl", ["req", ...request, ...files], { stdio: "ignore" });
  copyFileSync(path("server-cert.pem"), path("ca-cert.pem"));
  return directory;
}
