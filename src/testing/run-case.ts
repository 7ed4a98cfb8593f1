// Runs one case: requests to a plugin that has just been opened, each reply compared with the model.

import type { Client } from "../client/client.js";
import { NbdError } from "../client/errors.js";
import { contentOf, Model, type Window } from "./model.js";
import { Difference, NoAnswer } from "./model-error.js";
import {
  type Changing,
  changes,
  inWords,
  type ModelRequest,
  type Numbered,
  turnsOf,
} from "./requests.js";
import type { Opened } from "./setup.js";

export interface CaseOptions {
  readonly windows: readonly Window[];
  /** Codes that requests may fail with. */
  readonly mayFail: readonly string[];
  readonly answerWithinMs: number;
}

interface Answered extends Numbered {
  /** Whether it was done; false: it failed, as it may. */
  readonly isDone: boolean;
  /** Of a read. */
  readonly data?: Buffer;
  /** Of a status: ranges that are said to be zero. */
  readonly zeroes?: readonly Window[];
}

const called = ({ index, request }: Numbered): string =>
  `request ${index + 1}, ${inWords(request)}`;

/** Throws a Difference where the plugin is not what the model is. */
export async function runCase(
  opened: Opened,
  requests: readonly ModelRequest[],
  options: CaseOptions,
): Promise<void> {
  const all = (what: string) => readAll(opened, what, options);
  const model = new Model(options.windows, await all("before the first request"));
  for (const turn of turnsOf(requests)) {
    const [first] = turn as [Numbered];
    if (first.request.kind === "reconnect") await step(called(first), opened.reconnect());
    else if (first.request.kind === "restart") {
      await step(called(first), opened.restart());
      model.restarted(`after ${called(first)}`, await all(`after ${called(first)}`));
    } else await runTurn(opened, model, turn, options);
  }
  const end = "in the end";
  for (const [i, data] of (await all(end)).entries())
    model.checkRead(end, (options.windows[i] as Window).start, data);
}

async function runTurn(
  opened: Opened,
  model: Model,
  turn: readonly Numbered[],
  options: CaseOptions,
): Promise<void> {
  const changing = turn.filter((one): one is Numbered<Changing> => changes(one.request));
  model.begin(changing);
  const settled = await Promise.allSettled(
    turn.map((one) => answered(opened.client(one.request.connection), one, options)),
  );
  const answers = settled.map((result) => {
    if (result.status === "rejected") throw result.reason;
    return result.value;
  });
  for (const answer of answers) check(model, answer);
  const done = answers.filter(({ isDone }) => isDone);
  if (done.some(({ request }) => request.kind === "flush")) model.flushed();
  model.end(changing, new Set(done.map(({ index }) => index)));
}

function check(model: Model, answer: Answered): void {
  const { request, data, zeroes = [] } = answer;
  if (!("offset" in request)) return;
  if (data !== undefined) model.checkRead(called(answer), request.offset, data);
  for (const { start, length } of zeroes) model.checkZero(called(answer), start, length);
}

/** Rejects with a Difference if it fails and may not, or is not answered. */
async function answered(
  client: Client,
  one: Numbered,
  { answerWithinMs, mayFail }: CaseOptions,
): Promise<Answered> {
  try {
    const found = await within(called(one), perform(client, one), answerWithinMs);
    return { ...one, isDone: true, ...found };
  } catch (error) {
    if (error instanceof NbdError && mayFail.includes(error.code)) return { ...one, isDone: false };
    throw asDifference(called(one), error);
  }
}

async function perform(client: Client, one: Numbered): Promise<Partial<Answered>> {
  const { request } = one;
  switch (request.kind) {
    case "read":
      return { data: await client.read(request.offset, request.length) };
    case "write": {
      const content = contentOf({ index: one.index, request });
      await client.write(request.offset, content, { fua: request.fua });
      return {};
    }
    case "zero":
      await client.zero(request.offset, request.length, { fua: request.fua });
      return {};
    case "trim":
      await client.trim(request.offset, request.length, { fua: request.fua });
      return {};
    case "cache":
      await client.cache(request.offset, request.length);
      return {};
    case "status":
      return { zeroes: await zeroesOf(client, request.offset, request.length) };
    default:
      await client.flush(); // reconnect and restart are not of one client
      return {};
  }
}

async function zeroesOf(client: Client, offset: number, length: number): Promise<Window[]> {
  const zeroes: Window[] = [];
  for await (const extent of client.blockStatus(offset, length))
    if (extent.isZero) zeroes.push({ start: extent.offset, length: extent.length });
  return zeroes;
}

function readAll(opened: Opened, what: string, options: CaseOptions): Promise<Buffer[]> {
  // By a connection that has not written the last: what others see is what counts.
  const client = opened.client(opened.connections - 1);
  const reads = options.windows.map(({ start, length }) => client.read(start, length));
  return step(what, within(what, Promise.all(reads), options.answerWithinMs));
}

/** What fails is a difference, and said to be of this step. */
async function step<Result>(what: string, happening: Promise<Result>): Promise<Result> {
  try {
    return await happening;
  } catch (error) {
    throw asDifference(what, error);
  }
}

function asDifference(what: string, error: unknown): Difference {
  if (error instanceof Difference) return error;
  const { code, message } = error as { code?: string; message: string };
  return new Difference(`${what}: it fails${code ? ` with ${code}` : ""}: ${message}`);
}

async function within<Result>(
  what: string,
  answer: Promise<Result>,
  deadlineMs: number,
): Promise<Result> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    const error = new NoAnswer(`${what}: there is no answer after ${deadlineMs} ms`);
    timer = setTimeout(() => reject(error), deadlineMs);
  });
  try {
    return await Promise.race([answer, late]);
  } finally {
    clearTimeout(timer);
  }
}
