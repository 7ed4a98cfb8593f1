// Runs on a worker thread: leads the life of its instance of an export, and serves its clients.

import { parentPort, workerData } from "node:worker_threads";
import { addon } from "../addon/addon.js";
import type { NativeServer } from "../addon/types.js";
import { AsyncnbdError, messageOf } from "../errors.js";
import { Chain } from "../exports/chain.js";
import { Export } from "../exports/export.js";
import { ExportTable } from "../exports/table.js";
import { CPlugin } from "../plugins/c-plugin.js";
import { openPlugin } from "../plugins/open-plugin.js";
import { describeThrown, readFailure } from "../plugins/script/errno.js";
import { joinThreadGroup } from "../plugins/thread-group.js";
import type { ServerSettings } from "./server.js";
import { type ClientStream, Session } from "./session.js";
import type { FromWorker, StepName, ToWorker, WorkerSpec, WorkerSteps } from "./worker-export.js";

const port = parentPort as NonNullable<typeof parentPort>;
const spec = workerData as WorkerSpec;

let own: Export;
let exports: ExportTable;
let native: NativeServer | undefined;
const sessions = new Map<number, Session>();

const post = (message: FromWorker): void => port.postMessage(message);

const steps: WorkerSteps = {
  async open() {
    joinThreadGroup(spec.group);
    const plugin = await openPlugin(spec.plugin, { watch: spec.watch });
    if (plugin instanceof CPlugin)
      throw new AsyncnbdError(
        "CONFIG",
        `${plugin.about.name} is a C plugin and has threads of its own: remove --workers`,
      );
    own = new Export(await Chain.of(plugin, spec.filters));
    exports = ExportTable.of(own);
    return own.about;
  },
  load: () => own.load(),
  async getReady(parameters) {
    await own.getReady(parameters);
    return own.parts;
  },
  afterFork: () => own.afterFork(),
  end: () => own.end(),
};

async function runStep(name: StepName, argument: unknown): Promise<void> {
  try {
    const value = await (steps[name] as (argument: unknown) => Promise<unknown>)(argument);
    post({ kind: "done", value });
  } catch (error) {
    const code = error instanceof AsyncnbdError ? error.code : "PLUGIN";
    post({ kind: "failed", code, message: messageOf(error) });
  }
}

async function serve(stream: ClientStream, settings: ServerSettings): Promise<void> {
  native ??= new (addon().NativeServer)(() => {}, settings.maxInFlightBytes);
  const session = new Session(native, exports, stream, settings);
  sessions.set(stream.number, session);
  try {
    await session.run();
  } catch (error) {
    addon().logError(`client connection failed: ${messageOf(error)}`);
  } finally {
    sessions.delete(stream.number);
    post({ kind: "ended", client: stream.number, counts: session.counts });
  }
}

function reportUncaught(error: unknown): void {
  const stack = describeThrown(error);
  const report = new Error(readFailure(error).text || stack);
  post({ kind: "uncaught", error: Object.assign(report, { stack }) }); // what was thrown may be anything
}
process.on("uncaughtException", reportUncaught);
process.on("unhandledRejection", reportUncaught); // else Node makes an error of its own of the reason

port.on("message", (message: ToWorker) => {
  switch (message.kind) {
    case "step":
      void runStep(message.name, message.argument);
      break;
    case "serve":
      void serve(message.stream, message.settings);
      break;
    case "stop":
      // The first message stops all: they must have their grace before the announcement.
      for (const session of sessions.values()) session.stop(message.graceMs);
      native?.announceStop();
      break;
    case "abort":
      sessions.get(message.client)?.abort();
      break;
  }
});
