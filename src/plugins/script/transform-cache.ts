// Caches compiled TypeScript for the next start, since compiling takes most of a start's time.

import { createHash, randomBytes } from "node:crypto";
import {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, isAbsolute, join } from "node:path";

/** Each edit adds one; the oldest go. */
const MAX_FILES = 128;

/** Nothing else in the directory is ours to remove. */
const OWN_NAME = /^(?:[0-9a-f]{64}\.js|\.[0-9a-f]{16})$/;

/**
 * A directory that nobody else can write to, opened, so that it stays the same whatever happens to its
 * path; undefined: there is none. Nothing is made in the home of somebody else, as root may have it.
 */
function openDirectory(): number | undefined {
  const { XDG_CACHE_HOME, HOME } = process.env;
  const parent = XDG_CACHE_HOME || (HOME && join(HOME, ".cache"));
  if (!parent || !isAbsolute(parent)) return undefined;
  const path = join(parent, "asyncnbd");
  const { O_DIRECTORY, O_NOFOLLOW, O_RDONLY } = constants;
  try {
    if (ownerOf(path) !== process.geteuid?.()) return undefined;
    mkdirSync(path, { recursive: true, mode: 0o700 });
    const directory = openSync(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (isOwn(fstatSync(directory))) return directory;
    closeSync(directory);
  } catch {
    // it is missing, and cannot be made
  }
  return undefined;
}

/** Or of what it would be made in. */
function ownerOf(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.uid ?? ownerOf(dirname(path));
}

const isOwn = ({ uid, mode }: { uid: number; mode: number }): boolean =>
  uid === process.geteuid?.() && (mode & 0o022) === 0;

const hashOf = (text: string): string => createHash("sha256").update(text).digest("hex");

/** Its first line is the hash of the others: a file that was cut off counts for nothing. */
function read(path: string): string | undefined {
  try {
    const fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
    try {
      const content = isOwn(fstatSync(fd)) ? readFileSync(fd, "utf8") : "";
      const end = content.indexOf("\n");
      const code = content.slice(end + 1);
      return end !== -1 && content.slice(0, end) === hashOf(code) ? code : undefined;
    } finally {
      closeSync(fd);
    }
  } catch {
    return undefined;
  }
}

/** A cache that cannot be written to is none. */
function write(directory: string, path: string, code: string): void {
  const unfinished = join(directory, `.${randomBytes(8).toString("hex")}`);
  try {
    writeFileSync(unfinished, `${hashOf(code)}\n${code}`, { flag: "wx", mode: 0o600 });
    renameSync(unfinished, path);
    removeOldest(directory);
  } catch {
    try {
      unlinkSync(unfinished);
    } catch {
      // it was never made
    }
  }
}

function removeOldest(directory: string): void {
  const names = readdirSync(directory).filter((name) => OWN_NAME.test(name));
  if (names.length <= MAX_FILES) return;
  const ages = names.map((name) => [lstatSync(join(directory, name)).mtimeMs, name] as const);
  ages.sort(([one], [other]) => one - other);
  for (const [, name] of ages.slice(0, names.length - MAX_FILES)) unlinkSync(join(directory, name));
}

/** What `make` gives for an `input`, now or at an earlier start; `isGood`: worth keeping. */
export function cached(
  input: unknown,
  make: () => string,
  isGood: (code: string) => boolean,
): string {
  const opened = openDirectory();
  if (opened === undefined) return make();
  try {
    const directory = `/proc/self/fd/${opened}`;
    const path = join(directory, `${hashOf(JSON.stringify(input))}.js`);
    const kept = read(path);
    if (kept !== undefined) return kept;
    const code = make();
    if (isGood(code)) write(directory, path, code);
    return code;
  } finally {
    closeSync(opened);
  }
}
