// NBD_OPT_INFO and NBD_OPT_GO: what an export is like, and with GO, on to its transmission phase.

import type { BlockSizes, OpenedExport } from "../../addon/types.js";
import {
  MAX_PAYLOAD_BYTES,
  MAX_STRING_BYTES,
  NBD_INFO_BLOCK_SIZE,
  NBD_INFO_DESCRIPTION,
  NBD_INFO_NAME,
  NBD_OPT_GO,
  NBD_REP_ACK,
  NBD_REP_ERR_INVALID,
  NBD_REP_ERR_UNKNOWN,
} from "../../protocol.js";
import { closeExport, openExport, send } from "../effects.js";
import { blockSizeInfo, descriptionInfo, exportInfo, nameInfo, optionReply } from "../replies.js";
import {
  decodeName,
  flagsFor,
  type OptionHandler,
  quoted,
  refuseOption,
  transmit,
} from "./option.js";

const MAX_INFO_REQUESTS = 0xffff;

/** What a plugin that states no sizes takes: any alignment, and our own limit. */
const DEFAULT_BLOCK_SIZES = [1, 4096, MAX_PAYLOAD_BYTES] as const;

interface InfoRequest {
  readonly name: string;
  readonly infos: ReadonlySet<number>;
}

export const infoOrGo: OptionHandler = {
  maxBytes: 4 + MAX_STRING_BYTES + 2 + 2 * MAX_INFO_REQUESTS,

  *answer(negotiation, option, data) {
    const request = decode(data);
    if (request === undefined) {
      yield* refuseOption(
        negotiation,
        option,
        NBD_REP_ERR_INVALID,
        "malformed export name or list of information requests",
      );
      return undefined;
    }
    const opened = yield* openExport(request.name, {
      description: request.infos.has(NBD_INFO_DESCRIPTION),
      blockSizes: request.infos.has(NBD_INFO_BLOCK_SIZE),
    });
    if (opened === null) {
      yield* refuseOption(
        negotiation,
        option,
        NBD_REP_ERR_UNKNOWN,
        `export ${quoted(request.name)} cannot be opened`,
      );
      return undefined;
    }
    const flags = flagsFor(negotiation, request.name, opened);
    const described = describe(option, request, opened, flags);
    if (described === undefined) {
      yield* closeExport();
      yield* refuseOption(
        negotiation,
        option,
        NBD_REP_ERR_UNKNOWN,
        `export ${quoted(request.name)} cannot be described`,
      );
      return undefined;
    }
    yield* send(Buffer.concat([...described.replies, optionReply(option, NBD_REP_ACK)]));
    if (option === NBD_OPT_GO)
      return transmit(negotiation, request.name, flags, described.blockSizes);
    yield* closeExport();
    return undefined;
  },
};

/** Length and bytes of the name, then how many infos and which; the lengths must fit exactly. */
function decode(data: Uint8Array): InfoRequest | undefined {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  if (data.length < 6) return undefined;
  const nameBytes = view.getUint32(0);
  if (nameBytes > data.length - 6) return undefined;
  const name = decodeName(data.subarray(4, 4 + nameBytes));
  const infoCount = view.getUint16(4 + nameBytes);
  const infosStart = 4 + nameBytes + 2;
  if (name === undefined || data.length !== infosStart + 2 * infoCount) return undefined;
  const infos = new Set<number>();
  for (let i = 0; i < infoCount; i++) infos.add(view.getUint16(infosStart + 2 * i));
  return { name, infos };
}

interface Description {
  /** Before the acknowledgement. */
  readonly replies: Uint8Array[];
  /** If they were announced to the client, which must then keep to them. */
  readonly blockSizes: BlockSizes | undefined;
}

/** undefined if the plugin cannot answer. */
function describe(
  option: number,
  { infos }: InfoRequest,
  opened: OpenedExport,
  flags: number,
): Description | undefined {
  const replies = [exportInfo(option, opened.sizeBytes, flags)];
  if (infos.has(NBD_INFO_NAME)) replies.push(nameInfo(option, opened.name));
  if (infos.has(NBD_INFO_DESCRIPTION)) {
    const { description } = opened;
    if (description !== "" && Buffer.byteLength(description) <= MAX_STRING_BYTES)
      replies.push(descriptionInfo(option, description));
  }
  let announced: BlockSizes | undefined;
  if (infos.has(NBD_INFO_BLOCK_SIZE)) {
    const { blockSizes: sizes } = opened;
    if (sizes === null) return undefined;
    announced = sizes[0] === 0 ? DEFAULT_BLOCK_SIZES : sizes;
    replies.push(blockSizeInfo(option, announced));
  }
  return { replies, blockSizes: announced };
}
