// Compiles many small sources as a few large ones: the headers that all include are read once for
// each folder and not once for each file, which takes a fifth of the time. Writes files that
// include the sources of the lists in sources.json which are named, and prints their names:
//   node native/batches.mjs DIRECTORY LIST...

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";

// Small enough that two processors share the work, and that a change is not long compiled.
const MAX_LINES = 6_000;
// make comes to these last, when there is nothing else for the second processor.
const MAX_LINES_AT_LAST = { s3: 2_000 };

const native = new URL("./", import.meta.url);
const [directory, ...lists] = process.argv.slice(2);
const sources = JSON.parse(readFileSync(new URL("sources.json", native), "utf8"));

/** The sources of one folder, in equal parts. */
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

mkdirSync(directory, { recursive: true });
for (const list of lists) {
  const maxLines = MAX_LINES_AT_LAST[list] ?? MAX_LINES;
  for (const folder of new Set(sources[list].map((file) => dirname(file)))) {
    const files = sources[list].filter((file) => dirname(file) === folder);
    split(files, maxLines).forEach((part, index) => {
      const path = `${directory}/${list}-${folder}-${index + 1}.cpp`;
      write(path, part.map((file) => `#include "${file}"\n`).join(""));
      console.log(path);
    });
  }
}
