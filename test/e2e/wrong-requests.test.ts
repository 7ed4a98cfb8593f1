// A client library told not to be strict sends what it should not: errors, not disconnects.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { runOk } from "../support/command.js";
import { startServer, temporaryDirectory } from "../support/server.js";

const PROGRAM = `
import errno, json, nbd, sys

def attempt(f):
    try:
        f()
        return "ok"
    except nbd.Error as e:
        return errno.errorcode.get(e.errnum, str(e.errnum))

def client(uri):
    h = nbd.NBD()
    h.set_strict_mode(0)
    h.connect_uri(uri)
    return h

h, ro = client(sys.argv[1]), client(sys.argv[2])
size = h.get_size()
results = {
    "read past end": attempt(lambda: h.pread(1024, size - 512)),
    "read at end": attempt(lambda: h.pread(512, size)),
    "write past end": attempt(lambda: h.pwrite(bytearray(1024), size - 512)),
    "zero past end": attempt(lambda: h.zero(1024, size - 512)),
    "trim past end": attempt(lambda: h.trim(1024, size - 512)),
    "cache past end": attempt(lambda: h.cache(1024, size - 512)),
    "empty write": attempt(lambda: h.pwrite(bytearray(0), 0)),
    "fua read": attempt(lambda: h.pread(512, 0, flags=nbd.CMD_FLAG_FUA)),
    "no hole on trim": attempt(lambda: h.trim(512, 0, flags=nbd.CMD_FLAG_NO_HOLE)),
    "write to read-only": attempt(lambda: ro.pwrite(bytearray(512), 0)),
    "zero on read-only": attempt(lambda: ro.zero(512, 0)),
    "trim on read-only": attempt(lambda: ro.trim(512, 0)),
    "both still work": attempt(lambda: (h.pread(512, 0), ro.pread(512, 0), h.flush())),
}
h.shutdown()
ro.shutdown()
print(json.dumps(results))
`;

test("requests of a lax client get the right errors and the connections go on", async () => {
  const program = join(temporaryDirectory(), "client.py");
  writeFileSync(program, PROGRAM);
  const server = await startServer(["memory", "1M"]);
  const readOnly = await startServer(["memory", "1M"], { options: ["-r"] });
  const output = await runOk(["/usr/bin/python3", program, server.uri, readOnly.uri]);
  expect(JSON.parse(output)).toEqual({
    "read past end": "EINVAL",
    "read at end": "EINVAL",
    "write past end": "ENOSPC",
    "zero past end": "ENOSPC",
    "trim past end": "EINVAL",
    "cache past end": "EINVAL",
    "empty write": "ENOSPC",
    "fua read": "ok",
    "no hole on trim": "EINVAL",
    "write to read-only": "EPERM",
    "zero on read-only": "EPERM",
    "trim on read-only": "EPERM",
    "both still work": "ok",
  });
  await Promise.all([server.stop(), readOnly.stop()]);
});
