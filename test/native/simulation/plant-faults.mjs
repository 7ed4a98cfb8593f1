// Shows that the simulation finds what it is for: plants one fault after the other in a copy of the
// sources, builds the simulation of it, and runs seeds until one fails. Each has to within a minute.
//   node test/native/simulation/plant-faults.mjs [WORD...]    only those with such a word in their names

import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { FAULTS } from "./faults.mjs";

const SECONDS = 60;

const here = fileURLToPath(new URL(".", import.meta.url));
const native = fileURLToPath(new URL("../../../native", import.meta.url));
const build = fileURLToPath(new URL("../../../build-faults", import.meta.url));
const planted = `${build}/native`;

/** @typedef {{ name: string, file: string, from: string, to: string }} Fault */

/**
 * @param {string} command
 * @param {string[]} words
 */
function run(command, ...words) {
  const { status, stdout, stderr } = spawnSync(command, words, { encoding: "utf8" });
  return { status, text: stdout + stderr };
}

/**
 * @param {string} command
 * @param {string[]} words
 */
function mustRun(command, ...words) {
  const { status, text } = run(command, ...words);
  if (status !== 0) throw new Error(`${command} failed:\n${text}`);
}

const compile = () => mustRun("cmake", "--build", build, "-j", String(availableParallelism()));

/** What is the same already keeps its time, and is not compiled again. */
function copySources() {
  for (const file of readdirSync(native, { recursive: true, encoding: "utf8" })) {
    if (!/\.([ch]pp|h|inc)$/.test(file)) continue;
    const text = readFileSync(`${native}/${file}`, "utf8");
    const copy = `${planted}/${file}`;
    if (existsSync(copy) && readFileSync(copy, "utf8") === text) continue;
    mkdirSync(dirname(copy), { recursive: true });
    writeFileSync(copy, text);
  }
}

/**
 * Puts the fault into the copy. Returns how to take it out again.
 * @param {Fault} fault
 */
function plant({ name, file, from, to }) {
  const path = `${planted}/${file}`;
  const text = readFileSync(path, "utf8");
  if (text.split(from).length !== 2) throw new Error(`"${name}" has no one place in ${file}`);
  writeFileSync(
    path,
    text.replace(from, () => to),
  );
  return () => writeFileSync(path, text);
}

/**
 * Whether a seed fails; says which and why.
 * @param {Fault} fault
 */
function isFound(fault) {
  const takeOut = plant(fault);
  try {
    compile();
    const begin = performance.now();
    const { status, text } = run(
      "timeout",
      String(2 * SECONDS),
      `${build}/Release/simulation_test`,
      "--seconds",
      String(SECONDS),
    );
    const seconds = ((performance.now() - begin) / 1000).toFixed(1);
    const lines = text.split("\n");
    // It ends on its own, by a check, an assertion or a crash that it reports.
    const seed = lines.findIndex((line) => /^seeds? \d+/.test(line));
    if (seed < 0) throw new Error(`the simulation: ${status}: ${lines[0]}`);
    const said = lines.slice(0, seed + 1).join("; ");
    console.log(`${status === 0 ? "MISSED" : "found "} ${seconds} s  ${fault.name}`);
    console.log(`               ${said}`);
    return status !== 0;
  } finally {
    takeOut();
  }
}

const words = process.argv.slice(2);
const chosen = FAULTS.filter(
  ({ name }) => words.length === 0 || words.some((word) => name.includes(word)),
);
copySources();
mustRun("cmake", "-S", here, "-B", build, `-DSHIPPED=${planted}`);
compile();
mustRun(`${build}/Release/simulation_test`, "--runs", "100"); // as they are, the sources pass
const found = chosen.filter(isFound);
console.log(`${found.length} of ${chosen.length} faults found`);
process.exitCode = found.length === chosen.length ? 0 : 1;
