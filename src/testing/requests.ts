// The requests of checkModel(): what they are, and in words.

interface Ranged {
  readonly offset: number;
  readonly length: number;
}

export type ModelRequest = (
  | ({ readonly kind: "read" | "cache" | "status" } & Ranged)
  | ({ readonly kind: "write" | "trim" | "zero"; readonly fua: boolean } & Ranged)
  | { readonly kind: "flush" | "reconnect" | "restart" }
) & {
  /** Of those that are open. */
  readonly connection: number;
  /** Sent with the one before, without waiting for that one's reply. */
  readonly isTogether: boolean;
};

export type Changing = Extract<ModelRequest, { kind: "write" | "trim" | "zero" }>;

export const changes = (request: ModelRequest): request is Changing =>
  request.kind === "write" || request.kind === "trim" || request.kind === "zero";

const standsAlone = ({ kind }: ModelRequest): boolean => kind === "reconnect" || kind === "restart";

/** A request, with its place in the case. */
export interface Numbered<Request extends ModelRequest = ModelRequest> {
  /** From 0. */
  readonly index: number;
  readonly request: Request;
}

/** What is in flight at the same time. */
export function turnsOf(requests: readonly ModelRequest[]): Numbered[][] {
  const turns: Numbered[][] = [];
  for (const [index, request] of requests.entries()) {
    const last = turns.at(-1);
    const before = last?.[0]?.request;
    const joins = before && request.isTogether && !standsAlone(request) && !standsAlone(before);
    if (last !== undefined && joins) last.push({ index, request });
    else turns.push([{ index, request }]);
  }
  return turns;
}

const VERBS = { read: "read", cache: "cache", status: "ask for the status of" } as const;

export function inWords(request: ModelRequest): string {
  if (!("offset" in request)) return request.kind;
  const { kind, offset, length } = request;
  const verb = changes(request) ? kind : VERBS[kind as keyof typeof VERBS];
  const fua = changes(request) && request.fua ? ", with FUA" : "";
  return `${verb} ${length} byte${length === 1 ? "" : "s"} at ${offset}${fua}`;
}

/** All of a case, with what is said only where it matters. */
export function caseInWords(requests: readonly ModelRequest[], connections: number): string[] {
  const together = new Set(
    turnsOf(requests).flatMap((turn) => turn.slice(1).map(({ index }) => index)),
  );
  return requests.map((request, index) => {
    const where =
      connections > 1 && !standsAlone(request)
        ? `, on connection ${(request.connection % connections) + 1}`
        : "";
    const when = together.has(index) ? `, while ${index} is in flight` : "";
    return `${inWords(request)}${where}${when}`;
  });
}
