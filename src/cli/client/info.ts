// info and list: what servers tell of their exports.

import { type ExportInfo, exportInfo, listExports } from "../../client/index.js";
import { formatSize } from "../../config/size.js";
import { printable } from "./printable.js";

const protocolOf = ({ style }: ExportInfo): string =>
  style === "simple" ? "newstyle-fixed" : `newstyle-fixed, ${style} replies`;

/** Capabilities by the names that nbdinfo gives them. */
const capabilities = (info: ExportInfo): Readonly<Record<string, boolean>> => ({
  is_rotational: info.isRotational,
  is_read_only: !info.canWrite,
  can_cache: info.canCache,
  can_df: info.canReadWhole,
  can_fast_zero: info.canFastZero,
  can_flush: info.canFlush,
  can_fua: info.canFua,
  can_multi_conn: info.canMultiConn,
  can_trim: info.canTrim,
  can_zero: info.canZero,
});

function asJson(info: ExportInfo): object {
  const { blockSizes, hasBlockSizes } = info;
  return {
    "export-name": info.exportName,
    ...(info.description !== undefined && { description: info.description }),
    contexts: info.contexts,
    ...capabilities(info),
    ...(hasBlockSizes && {
      block_size_minimum: blockSizes.minimum,
      block_size_preferred: blockSizes.preferred,
      block_size_maximum: blockSizes.maximum,
    }),
    "export-size": info.sizeBytes,
  };
}

function asText(info: ExportInfo): string {
  const { blockSizes, hasBlockSizes } = info;
  const lines = [
    `export="${printable(info.exportName)}":`,
    ...(info.description === undefined ? [] : [`description: ${printable(info.description)}`]),
    `export-size: ${info.sizeBytes} (${formatSize(info.sizeBytes)})`,
    ...(info.contexts.length === 0 ? [] : ["contexts:"]),
    ...info.contexts.map((context) => `\t${printable(context)}`),
    ...Object.entries(capabilities(info)).map(([name, value]) => `${name}: ${value}`),
    ...(hasBlockSizes ? Object.entries(blockSizes) : []).map(
      ([name, value]) => `block_size_${name}: ${value}`,
    ),
  ];
  return lines.map((line, index) => `${index === 0 ? "" : "\t"}${line}\n`).join("");
}

export async function info(uri: string, json: boolean): Promise<string> {
  const about = await exportInfo(uri);
  const tls = about.isEncrypted;
  if (!json) return `protocol: ${protocolOf(about)}${tls ? " with TLS" : ""}\n${asText(about)}`;
  const whole = { protocol: protocolOf(about), TLS: tls, exports: [asJson(about)] };
  return `${JSON.stringify(whole, null, 2)}\n`;
}

export async function list(uri: string, json: boolean): Promise<string> {
  const exports = await listExports(uri);
  if (json) return `${JSON.stringify({ exports }, null, 2)}\n`;
  return exports
    .map(({ name, description }) => (description === "" ? [name] : [name, description]))
    .map((words) => `${words.map(printable).join("\t")}\n`)
    .join("");
}
