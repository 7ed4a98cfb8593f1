// A debugger, as an editor is one: stops a program where a line of TypeScript is, and tells what it
// finds there: debugger URL MODULE SOURCE LINE EXPRESSION. MODULE is the JavaScript that was made of
// SOURCE. It says "waiting" once a stop is wanted, then the place and the value, and lets it go on.

import { readFileSync } from "node:fs";
import { SourceMap } from "node:module";
import { dirname, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const [url, module, source, line, expression] =
  /** @type {[string, string, string, string, string]} */ (process.argv.slice(2));

const socket = new WebSocket(url);
/** @type {Map<number, (result: any) => void>} */
const answers = new Map();
/** @type {Map<string, (params: any) => void>} */
const events = new Map();
let sent = 0;

/**
 * Asks the program; what it answers.
 * @param {string} method
 * @param {object} params
 * @returns {Promise<any>}
 */
function ask(method, params = {}) {
  const id = ++sent;
  socket.send(JSON.stringify({ id, method, params }));
  return new Promise((found) => answers.set(id, found));
}

/** @param {string} method @returns {Promise<any>} */
const next = (method) => new Promise((found) => events.set(method, found));

socket.onmessage = (/** @type {{ data: any }} */ event) => {
  const { id, method, params, result, error } = JSON.parse(event.data);
  if (error !== undefined) throw new Error(error.message);
  if (id !== undefined) answers.get(id)?.(result);
  else events.get(method)?.(params);
};
await new Promise((opened) => {
  socket.onopen = () => opened(undefined);
});

/** The module's source map: in lines from 0, as the debugger counts them. */
function sourceMap() {
  const text = readFileSync(module, "utf8");
  const name = /^\/\/# sourceMappingURL=(.*)$/m.exec(text)?.[1] ?? "no source map";
  const path = join(dirname(module), name);
  const payload = JSON.parse(readFileSync(path, "utf8"));
  if (resolve(dirname(path), payload.sources[0]) !== source)
    throw new Error(`${path} is of ${payload.sources[0]}`);
  return { map: new SourceMap(payload), lines: text.split("\n") };
}

const { map, lines } = sourceMap();

/** In SOURCE, from 0. @param {number} lineNumber @param {number} columnNumber in the module */
const lineInSource = (lineNumber, columnNumber) => {
  const entry = map.findEntry(lineNumber, columnNumber);
  return "originalLine" in entry ? entry.originalLine : -1;
};

/** Where the first of a line's code is in the module. @param {number} wanted from 0 */
function placeOf(wanted) {
  for (const [lineNumber, text] of lines.entries())
    for (let columnNumber = 0; columnNumber < text.length; columnNumber++)
      if (lineInSource(lineNumber, columnNumber) === wanted) return { lineNumber, columnNumber };
  throw new Error(`${source} has no code in line ${wanted + 1}`);
}

await ask("Debugger.enable");
const place = { url: pathToFileURL(module).href, ...placeOf(Number(line) - 1) };
const { locations } = await ask("Debugger.setBreakpointByUrl", place);
if (locations.length !== 1) throw new Error(`${module} is not loaded`);
const stopped = next("Debugger.paused");
console.log("waiting");

const { callFrames } = await stopped;
const [{ callFrameId, location, functionName }] = callFrames;
if (location.scriptId !== locations[0].scriptId) throw new Error("it stopped elsewhere");
const { result } = await ask("Debugger.evaluateOnCallFrame", { callFrameId, expression });
const stop = lineInSource(location.lineNumber, location.columnNumber) + 1;
console.log(JSON.stringify({ functionName, line: stop, value: result.value }));
await ask("Debugger.disable"); // and the program goes on
socket.close();
