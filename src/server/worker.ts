// Runs on a worker thread: leads the life of its instance of an export, and serves its clients.

import { parentPort, workerData } from "node:worker_threads";
import { addon } from "../addon/addon.js";
import { type Log, type LogLevel, logOf, processLog } from "../addon/log.js";
import type { NativeLatencies, NativeServer } from "../addon/types.js";
import { AsyncnbdError, type ErrorCode, messageOf } from "../errors.js";
import { Chain } from "../exports/chain.js";
import { Export } from "../exports/export.js";
import { ExportTable } from "../exports/table.js";
import { CPlugin } from "../plugins/c-plugin.js";
import { openPlugin } from "../plugins/open-plugin.js";
import type { Reload } from "../plugins/reload.js";
import { describeThrown, readFailure } from "../plugins/script/errno.js";
import { joinThreadGroup } from "../plugins/thread-group.js";
import type { ServerSettings } from "./server.js";
import { type ClientStream, Session, type SessionEnd } from "./session.js";
import type {
  FromWorker,
  PortableError,
  StepName,
  SystemFacts,
  ToWorker,
  WorkerSpec,
  WorkerSteps,
} from "./worker-export.js";

const port = parentPort as NonNullable<typeof parentPort>;
const spec = workerData as WorkerSpec;

let own: Export;
let exports: ExportTable;
let native: NativeServer | undefined;
let latencies: NativeLatencies | undefined;
const sessions = new Map<number, Session>();

const post = (message: FromWorker): void => port.postMessage(message);

const send =
  (level: LogLevel) =>
  (text: string): void =>
    post({ kind: "log", level, text });
const log: Log = spec.sendsLog
  ? logOf({ debug: send("debug"), info: send("info"), warn: send("warn"), error: send("error") })
  : processLog;

const steps: WorkerSteps = {
  async open() {
    joinThreadGroup(spec.group);
    const plugin = await openPlugin(spec.plugin, { watch: spec.watch, log, onReload });
    if (plugin instanceof CPlugin) {
      await plugin.unload();
      throw new AsyncnbdError(
        "WORKERS_IMPOSSIBLE",
        `${plugin.about.name} is a C plugin and has threads of its own: remove --workers`,
      );
    }
    own = new Export(await Chain.of(plugin, spec.filters, log));
    exports = ExportTable.of(own);
    return own.about;
  },
  load: () => own.load(),
  async getReady(parameters) {
    await own.getReady(parameters);
    return own.parts;
  },
  afterFork: () => own.afterFork(),
  end: () => own.end((call) => post({ kind: "entered", call })),
};

function portableError(error: unknown): PortableError {
  const { code, cause, isLogged } = error instanceof AsyncnbdError ? error : OF_PLUGIN;
  const known =
    cause === undefined ? {} : { cause: portable(cause), causeFacts: systemFactsOf(cause) };
  return { code, message: messageOf(error), isLogged, ...known };
}

/** Only what is plain, for a thread may have put anything there. */
function systemFactsOf(error: unknown): SystemFacts {
  const given = Object(error) as Record<string, unknown>;
  const known = ["code", "errno", "syscall"]
    .map((key) => [key, given[key]] as const)
    .filter(([, value]) => typeof value === "string" || typeof value === "number");
  return Object.fromEntries(known);
}

const onReload = ({ path, error, clientsLeft }: Reload): void =>
  post({ kind: "reload", path, clientsLeft, error: error && portableError(error) });

const OF_PLUGIN: { code: ErrorCode; cause?: unknown; isLogged: boolean } = {
  code: "PLUGIN_FAILED",
  isLogged: false,
};

async function runStep(name: StepName, argument: unknown): Promise<void> {
  try {
    const value = await (steps[name] as (argument: unknown) => Promise<unknown>)(argument);
    await log.drained();
    post({ kind: "done", value });
  } catch (error) {
    await log.drained();
    post({ kind: "failed", ...portableError(error) });
  }
}

async function serve(stream: ClientStream, settings: ServerSettings): Promise<void> {
  native ??= new (addon().NativeServer)(() => {}, settings.maxInFlightBytes, log.native);
  const { latencyGroup } = settings;
  if (latencyGroup !== undefined) latencies ??= new (addon().NativeLatencies)(latencyGroup);
  const session = new Session(native, exports, stream, settings, latencies);
  const client = stream.number;
  sessions.set(client, session);
  let end: SessionEnd;
  try {
    end = await session.run((opened) => post({ kind: "opened", client, opened }));
  } catch (error) {
    log.error(`client connection failed: ${messageOf(error)}`);
    end = { reason: "failed", detail: messageOf(error) };
  }
  sessions.delete(client);
  await log.drained();
  post({ kind: "ended", client, end, counts: session.counts });
}

/** What was thrown may be anything. */
function portable(error: unknown): Error {
  const stack = describeThrown(error);
  return Object.assign(new Error(readFailure(error).text || stack), { stack });
}

const reportUncaught = (error: unknown): void => post({ kind: "uncaught", error: portable(error) });
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
