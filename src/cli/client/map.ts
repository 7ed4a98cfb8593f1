// map: the extents of an export, one a line, as nbdinfo --map prints them.

import { connect, type Extent } from "../../client/index.js";

export interface MapOptions {
  readonly context: string;
  readonly json: boolean;
  readonly totals: boolean;
}

/** Bits of "base:allocation". */
const ALLOCATION = ["data", "hole", "zero", "hole,zero"];

const typeOf = ({ flags }: Pick<Extent, "flags">, context: string): string | undefined =>
  context === "base:allocation" ? ALLOCATION[Number(flags)] : undefined;

const line = (numbers: readonly (number | bigint)[], rest: string): string =>
  `${numbers.map((value) => String(value).padStart(10)).join("  ")}  ${rest}`.trimEnd();

export async function* map(uri: string, options: MapOptions): AsyncGenerator<string, void> {
  const client = await connect(uri, { contexts: [options.context] });
  try {
    const extents = client.blockStatus(0, client.size, { context: options.context });
    yield* options.totals ? totals(extents, client.size, options) : lines(extents, options);
  } finally {
    await client.close();
  }
}

async function* lines(
  extents: AsyncIterable<Extent>,
  { context, json }: MapOptions,
): AsyncGenerator<string, void> {
  let separator = "[";
  for await (const extent of extents) {
    const { offset, length, flags } = extent;
    const description = typeOf(extent, context) ?? "";
    if (!json) yield `${line([offset, length, flags], description)}\n`;
    else
      yield `${separator}\n${JSON.stringify({ offset, length, type: Number(flags), description })}`;
    separator = ",";
  }
  if (json) yield separator === "[" ? "[]\n" : "\n]\n";
}

async function* totals(
  extents: AsyncIterable<Extent>,
  size: number,
  { context, json }: MapOptions,
): AsyncGenerator<string, void> {
  const sums = new Map<bigint, number>();
  for await (const { flags, length } of extents) sums.set(flags, (sums.get(flags) ?? 0) + length);
  const rows = [...sums].sort(([a], [b]) => (a < b ? -1 : 1));
  const described = rows.map(([flags, bytes]) => ({
    size: bytes,
    percent: (100 * bytes) / size,
    type: Number(flags),
    description: typeOf({ flags }, context) ?? "",
  }));
  if (json) yield `${JSON.stringify(described, null, 2)}\n`;
  else
    for (const { size: bytes, percent, type, description } of described)
      yield `${String(bytes).padStart(10)} ${percent.toFixed(1).padStart(5)}%  ${type}  ${description}`.trimEnd() +
        "\n";
}
