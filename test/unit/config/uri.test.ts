import { expect, test } from "vitest";
import { type Endpoint, uriOf } from "../../../src/config/uri.js";

const unix: Endpoint = { kind: "unix", path: "/tmp/a dir/s" };

test.each<[Endpoint, string, string | undefined]>([
  [unix, "", "nbd+unix://?socket=/tmp/a%20dir/s"],
  [unix, "disk", "nbd+unix:///disk?socket=/tmp/a%20dir/s"],
  [unix, "a b/ü&c", "nbd+unix:///a%20b/%C3%BC%26c?socket=/tmp/a%20dir/s"],
  [{ kind: "tcp", port: 10809 }, "", "nbd://localhost"],
  [{ kind: "tcp", port: 1234 }, "it's", "nbd://localhost:1234/it%27s"],
  [{ kind: "stdio" }, "", undefined],
])("%j with export %j has the URI %s", (endpoint, exportName, uri) => {
  expect(uriOf(endpoint, exportName)).toBe(uri);
});
