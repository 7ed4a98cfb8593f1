import { expect, test } from "vitest";
import type { Endpoint } from "../../../src/config/listeners/index.js";
import { reachableHost } from "../../../src/config/listeners/tcp.js";
import { uriOf } from "../../../src/config/uri.js";

const unix: Endpoint = { kind: "unix", path: "/tmp/a dir/s" };

test.each<[Endpoint, string, string | undefined]>([
  [unix, "", "nbd+unix://?socket=/tmp/a%20dir/s"],
  [unix, "disk", "nbd+unix:///disk?socket=/tmp/a%20dir/s"],
  [unix, "a b/ü&c", "nbd+unix:///a%20b/%C3%BC%26c?socket=/tmp/a%20dir/s"],
  [{ kind: "tcp", host: "localhost", port: 10809 }, "", "nbd://localhost"],
  [{ kind: "tcp", host: "127.0.0.2", port: 1234 }, "it's", "nbd://127.0.0.2:1234/it%27s"],
  [{ kind: "tcp", host: "::1", port: 10809 }, "", "nbd://[::1]"],
  [{ kind: "tcp", host: "fe80::1%eth0", port: 1 }, "", "nbd://[fe80::1%25eth0]:1"],
  [{ kind: "stdio" }, "", undefined],
])("%j with export %j has the URI %s", (endpoint, exportName, uri) => {
  expect(uriOf(endpoint, exportName)).toBe(uri);
});

test.each<[string, 0 | 4 | 6, string]>([
  ["", 0, "localhost"],
  ["", 4, "localhost"],
  ["", 6, "::1"],
  ["0.0.0.0", 0, "localhost"],
  ["::", 0, "::1"],
  ["127.0.0.2", 0, "127.0.0.2"],
  ["::1", 6, "::1"],
  ["disk.example.org", 0, "disk.example.org"],
])("a server that listens on %j, family %i, is reached at %s", (host, family, found) => {
  expect(reachableHost(host, family)).toBe(found);
});
