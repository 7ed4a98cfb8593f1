// Plugins whose library is not installed: the folder of the system's libraries is shown without it, in
// a namespace of mounts.

import { dirname } from "node:path";
import { expect, test } from "vitest";
import { run, runOk } from "../support/command.js";
import { asyncnbd, temporaryDirectory } from "../support/server.js";

/** Where the loader finds it. */
async function folderOf(library: string): Promise<string> {
  const known = await runOk(["/sbin/ldconfig", "-p"]);
  const line = known.split("\n").find((one) => one.trimStart().startsWith(`${library} `));
  if (line === undefined) throw new Error(`${library} is not installed`);
  return dirname(line.slice(line.indexOf("=> ") + 3));
}

// $1: the folder; $2: how the names begin that are to be missing; $3: an empty folder; then a command.
const HIDE = `
set -e
folder=$(realpath "$1") hidden=$2 own=$3
shift 3
mkdir "$own/real" "$own/shown"
mount --bind "$folder" "$own/real"
for file in "$own"/real/*; do
  name=\${file##*/}
  case $name in "$hidden"*) ;; *) ln -s "$file" "$own/shown/$name" ;; esac
done
mount --bind "$own/shown" "$folder"
exec "$@"
`;

async function refusalWithout(library: string, prefix: string, words: string[]): Promise<string> {
  const namespaces = process.getuid?.() === 0 ? "-m" : "-rm";
  const hiding = ["sh", "-c", HIDE, "sh", await folderOf(library), prefix, temporaryDirectory()];
  const { status, stderr } = await run([
    ...["unshare", namespaces, ...hiding, ...asyncnbd],
    ...["-f", "-U", "-", ...words],
  ]);
  expect(status, stderr).toBe(1);
  return stderr;
}

const MISSING = "cannot open shared object file: No such file or directory";
const CURL_PACKAGE =
  "the package libcurl4 or libcurl4t64 (Debian, Ubuntu) or libcurl (Fedora, RHEL) has it";

test.each([
  {
    library: "libcurl.so.4",
    prefix: "libcurl",
    words: ["http", "http://127.0.0.1:1/disk.img"],
    sentence: `HTTP needs libcurl: libcurl-gnutls.so.4: ${MISSING}; ${CURL_PACKAGE}`,
  },
  {
    library: "libcurl.so.4",
    prefix: "libcurl",
    words: ["s3", "bucket=a", "key=b", "anonymous=true"],
    sentence: `HTTP needs libcurl: libcurl-gnutls.so.4: ${MISSING}; ${CURL_PACKAGE}`,
  },
  {
    library: "librbd.so.1",
    prefix: "librados.so",
    words: ["rbd", "rbd/disk"],
    sentence:
      `rbd needs librados.so.2: librados.so.2: ${MISSING}; ` +
      "the package librbd1 (Debian, Ubuntu, Fedora, RHEL) has it",
  },
])("$words.0 without $prefix says in one sentence which package has it", async (one) => {
  expect(await refusalWithout(one.library, one.prefix, one.words)).toBe(
    `asyncnbd: error: ${one.sentence}\n`,
  );
});
