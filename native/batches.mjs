// Compiles many small sources as a few large ones: the headers that all include are read once for
// each batch and not once for each file, and what they define is compiled once. It takes half of the
// time. Writes files that include the sources of the lists in sources.json which are named, and
// prints their names: node native/batches.mjs DIRECTORY LIST... Lists joined by "+" share batches.
// With --files for the directory it prints the names of the sources themselves.

import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";

// Large, since each costs more than a second before its first own line, and small enough that two
// processors share the work.
const MAX_LINES = 9_000;
// make comes to these last, when there is nothing else for the second processor.
const MAX_LINES_AT_LAST = { s3: 2_000 };

const native = new URL("./", import.meta.url);
const [directory, ...lists] = process.argv.slice(2);
const sources = JSON.parse(readFileSync(new URL("sources.json", native), "utf8"));
const named = new Set(Object.values(sources).flat());

/** The sources in a folder but those that are named themselves. */
function inFolder(folder) {
  const paths = readdirSync(new URL(`${folder}/`, native)).map((file) => `${folder}/${file}`);
  return paths.filter((path) => path.endsWith(".cpp") && !named.has(path)).sort();
}

/** Of lists joined by "+". */
const sourcesOf = (list) =>
  list
    .split("+")
    .flatMap((name) => sources[name])
    .flatMap((entry) => (entry.endsWith(".cpp") ? entry : inFolder(entry)));

/** In equal parts. */
function split(files, maxLines) {
  const lines = files.map((file) => readFileSync(new URL(file, native), "utf8").split("\n").length);
  const total = lines.reduce((sum, count) => sum + count, 0);
  const parts = Array.from({ length: Math.ceil(total / maxLines) }, () => []);
  let before = 0;
  files.forEach((file, index) => {
    parts[Math.floor((before * parts.length) / total)].push(file);
    before += lines[index];
  });
  return parts.filter((part) => part.length > 0);
}

// What has not changed is not written, so that it need not be compiled again.
function write(path, text) {
  try {
    if (readFileSync(path, "utf8") === text) return;
  } catch {
    // It is new.
  }
  writeFileSync(path, text);
}

if (directory === "--files") {
  console.log(lists.flatMap(sourcesOf).join("\n"));
  process.exit();
}
mkdirSync(directory, { recursive: true });
for (const list of lists) {
  split(sourcesOf(list), MAX_LINES_AT_LAST[list] ?? MAX_LINES).forEach((part, index) => {
    const path = `${directory}/${list}-${index + 1}.cpp`;
    write(path, part.map((file) => `#include "${file}"\n`).join(""));
    console.log(path);
  });
}
