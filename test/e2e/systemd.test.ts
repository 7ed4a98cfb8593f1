// The units in a real systemd: started when clients can connect, hardened, on demand, and stopped.

import { accessSync, constants, existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { run, runOk } from "../support/command.js";
import { sanitizer } from "../support/server.js";

const root = fileURLToPath(new URL("../../", import.meta.url));
const SYSTEMD = "/usr/lib/systemd/systemd";

function isWritable(path: string): boolean {
  try {
    accessSync(path, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

/** Containers often have control groups that are read-only. */
const isPossible =
  sanitizer === undefined &&
  existsSync(SYSTEMD) &&
  process.getuid?.() === 0 &&
  isWritable("/sys/fs/cgroup");

const besideSystemd = (commands: string): Promise<string> =>
  runOk(["sh", join(root, "test/support/systemd.sh"), root, process.execPath], { input: commands });

test("systemd accepts the units, except that the command is not installed", async () => {
  const units = ["asyncnbd@.service", "asyncnbd@.socket"];
  const paths = units.map((unit) => join(root, "packaging", unit));
  const { stderr } = await run(["systemd-analyze", "--man=no", "verify", ...paths]);
  const ours = stderr.split("\n").filter((line) => line.includes("asyncnbd@")); // of all that it loads
  expect(ours.filter((line) => !line.includes("Command asyncnbd is not executable"))).toEqual([]);
});

describe.skipIf(!isPossible)("in systemd", () => {
  test("a service serves once started, without privileges, and stops cleanly", async () => {
    const output = await besideSystemd(`
      mkdir -p /run/home/.config/asyncnbd/disk
      truncate -s 3M "/run/home/.config/asyncnbd/disk/my disk.img"
      echo "ARGUMENTS='-U served file \\"my disk.img\\"'" > /run/conf/disk.conf
      systemctl --user start asyncnbd@disk.service
      cd /run/home/.config/asyncnbd/disk
      nbdinfo --size 'nbd+unix:///?socket=served'
      qemu-io -f raw -c 'write -P 7 0 64k' -c 'read -P 7 0 64k' 'nbd+unix:///?socket=served' >&2
      systemctl --user show -p StatusText asyncnbd@disk.service
      pid=$(systemctl --user show -p MainPID --value asyncnbd@disk.service)
      grep -E '^(CapBnd|NoNewPrivs|Seccomp):' /proc/$pid/status
      [ "$(stat -c %u /proc/$pid)" -ne 0 ]
      systemctl --user stop asyncnbd@disk.service
      systemctl --user show -p Result -p ExecMainStatus asyncnbd@disk.service
    `);
    expect(output.split("\n").slice(0, -1)).toEqual([
      ...["3145728", "StatusText=Serving file to 0 clients"],
      ...["CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"],
      ...["Result=success", "ExecMainStatus=0"],
    ]);
  });

  test("a socket unit starts it for a client, and again for the next", async () => {
    const output = await besideSystemd(`
      echo "ARGUMENTS=--filter=exitlast ram 5M" > /run/conf/disk.conf
      systemctl --user start asyncnbd@disk.socket
      for client in 1 2; do
        systemctl --user is-active asyncnbd@disk.service || :
        nbdinfo --size 'nbd+unix:///?socket=/run/asyncnbd/disk.sock'
        until [ "$(systemctl --user is-active asyncnbd@disk.service)" = inactive ]; do :; done
      done
      systemctl --user show -p Result asyncnbd@disk.service
      systemctl --user stop asyncnbd@disk.socket
      [ ! -e /run/asyncnbd/disk.sock ]
    `);
    const once = "inactive\n5242880\n";
    expect(output).toBe(`${once}${once}Result=success\n`);
  });
});
