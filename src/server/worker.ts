// Runs on a worker thread: drives its instance of the plugin, and serves its clients.

import { parentPort, workerData } from "node:worker_threads";
import { addon } from "../addon/addon.js";
import type { NativeServer, NativeTurns } from "../addon/types.js";
import { AsyncnbdError, messageOf } from "../errors.js";
import { connectionQueueFor } from "../exports/connection-queue.js";
import { applyFilters } from "../filters/apply-filters.js";
import { CPlugin } from "../plugins/c-plugin.js";
import { openPlugin } from "../plugins/open-plugin.js";
import { type ClientStream, type PluginInstance, partsOf } from "../plugins/plugin-instance.js";
import { describeThrown, readFailure } from "../plugins/script/errno.js";
import { joinThreadGroup } from "../plugins/thread-group.js";
import type { ServerSettings } from "./server.js";
import { Session } from "./session.js";
import type { FromWorker, StepName, ToWorker, WorkerSpec, WorkerSteps } from "./worker-plugin.js";

const port = parentPort as NonNullable<typeof parentPort>;
const spec = workerData as WorkerSpec;

let plugin: PluginInstance;
let native: NativeServer | undefined;
let queue: NativeTurns | undefined;
const sessions = new Map<number, Session>();

const post = (message: FromWorker): void => port.postMessage(message);

const steps: WorkerSteps = {
  async open() {
    joinThreadGroup(spec.group);
    const own = await openPlugin(spec.plugin, { watch: spec.watch });
    if (own instanceof CPlugin)
      throw new AsyncnbdError(
        "CONFIG",
        `${own.about.name} is a C plugin and has threads of its own: remove --workers`,
      );
    plugin = await applyFilters(own, spec.filters);
    return plugin.about;
  },
  async load() {
    await plugin.load();
  },
  async configComplete(parameters) {
    for (const [key, value] of parameters) plugin.config(key, value);
    await plugin.configComplete();
    plugin.settleThreadModel();
  },
  async getReady() {
    await plugin.getReady();
    queue = connectionQueueFor(plugin);
    return partsOf(plugin);
  },
  async afterFork() {
    await plugin.afterFork();
  },
  async cleanup() {
    await plugin.cleanup();
  },
  async unload() {
    await plugin.unload();
  },
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
  const session = new Session(plugin.newSession(native, stream), settings, queue);
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
