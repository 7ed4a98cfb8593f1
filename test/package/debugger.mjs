// A debugger, as an editor is one: stops a program where a line of TypeScript is, and tells what it
// finds there: debugger URL MODULE SOURCE LINE EXPRESSION. MODULE is the JavaScript that was made of
// SOURCE. It says "waiting" once a stop is wanted, then the place and the value, and lets it go on.

import { readFileSync } from "node:fs";
import { SourceMap } from "node:module";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const [url, module, source, line, expression] = process.argv.slice(2);

const socket = new WebSocket(url);
const answers = new Map();
const events = new Map();
let sent = 0;

/** Asks the program; what it answers. */
function ask(method, params = {}) {
  const id = ++sent;
  socket.send(JSON.stringify({ id, method, params }));
  return new Promise((found) => answers.set(id, found));
}

const next = (method) => new Promise((found) => events.set(method, found));

socket.onmessage = ({ data }) => {
  const { id, method, params, result, error } = JSON.parse(data);
  if (error !== undefined) throw new Error(error.message);
  if (id !== undefined) answers.get(id)(result);
  else events.get(method)?.(params);
};
await new Promise((opened) => {
  socket.onopen = opened;
});

/** The module's source map: in lines from 0, as the debugger counts them. */
function sourceMap() {
  const text = readFileSync(module, "utf8");
  const path = join(dirname(module), /^\/\/# sourceMappingURL=(.*)$/m.exec(text)[1]);
  const payload = JSON.parse(readFileSync(path, "utf8"));
  if (resolve(dirname(path), payload.sources[0]) !== source)
    throw new Error(`${path} is of ${payload.sources[0]}`);
  return { map: new SourceMap(payload), lines: text.split("\n") };
}

const { map, lines } = sourceMap();

/** Where the first of a line's code is in the module. */
function placeOf(originalLine) {
  for (const [lineNumber, text] of lines.entries())
    for (let columnNumber = 0; columnNumber < text.length; columnNumber++)
      if (map.findEntry(lineNumber, columnNumber).originalLine === originalLine)
        return { lineNumber, columnNumber };
  throw new Error(`${source} has no code in line ${originalLine + 1}`);
}

await ask("Debugger.enable");
const place = { url: pathToFileURL(module).href, ...placeOf(Number(line) - 1) };
const { locations } = await ask("Debugger.setBreakpointByUrl", place);
if (locations.length !== 1) throw new Error(`${module} is not loaded`);
const stopped = next("Debugger.paused");
console.log("waiting");

const { callFrames } = await stopped;
const [{ callFrameId, url: where, location, functionName }] = callFrames;
const { originalLine } = map.findEntry(location.lineNumber, location.columnNumber);
const { result } = await ask("Debugger.evaluateOnCallFrame", { callFrameId, expression });
console.log(
  JSON.stringify({
    ...{ module: fileURLToPath(where), functionName, line: originalLine + 1 },
    value: result.value,
  }),
);
await ask("Debugger.disable"); // and the program goes on
socket.close();
