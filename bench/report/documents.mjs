// Writes the figures of the published run, bench/results/, into README.md and docs/performance.md:
// into what is between <!-- figures: NAME --> and <!-- /figures -->. A benchmark of which no run is
// published yet leaves what is there.
//   npm run bench:documents

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { FIGURES } from "./figures.mjs";

const root = new URL("../../", import.meta.url);
const here = (/** @type {string} */ path) => fileURLToPath(new URL(path, root));

export const DOCUMENTS = ["README.md", "docs/performance.md"];

const PLACE = /(<!-- figures: (.*?) -->)(.*?)(<!-- \/figures -->)/gs;

/** @param {string} file */
function published(file) {
  const path = here(`bench/results/${file}`);
  return existsSync(path) ? JSON.parse(readFileSync(path, "utf8")) : undefined;
}

/** The names of what has its place in a document. @param {string} text */
export const placesIn = (text) =>
  [...text.matchAll(PLACE)].map(([, , name]) => /** @type {string} */ (name));

/** What is left of a document without figures of benchmarks. @param {string} text */
export const withoutFigures = (text) => text.replace(PLACE, "");

/** The document with the published figures. @param {string} text */
export function withFigures(text) {
  /** @type {Map<string, unknown>} */
  const read = new Map();
  return text.replace(PLACE, (_, begin, name, old, end) => {
    const figures = FIGURES[name];
    if (figures === undefined) throw new Error(`there are no figures with the name ${name}`);
    const { from, write } = figures;
    if (!read.has(from)) read.set(from, published(from));
    const results = read.get(from);
    return begin + (results === undefined ? old : write(results)) + end;
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url))
  for (const document of DOCUMENTS) {
    const text = readFileSync(here(document), "utf8");
    writeFileSync(here(document), withFigures(text));
    console.log(`${document}: ${placesIn(text).join(", ")}`);
  }
