// What the specification of NBD asks of a server (doc/proto.md, with its extension of extended
// headers), rule by rule in our words, and the tests that see to it. docs/conformance.md is made of
// this; a test checks that each test named here exists.

export interface Rule {
  readonly level: "MUST" | "SHOULD" | "MAY";
  readonly rule: string;
  /**
   * FILE: a part of a test's title, in test/; or the words of a check, in strict-client.ts, or in
   * rules.ts, whose checks that client makes, too.
   */
  readonly tests?: readonly string[];
  /** If no test sees to it, or it is not kept: why. */
  readonly why?: string;
}

export interface Section {
  /** As in the specification. */
  readonly title: string;
  readonly rules: readonly Rule[];
}

const HANDSHAKE = "conformance/handshake.test.ts";
const TRANSMISSION = "conformance/transmission.test.ts";
const STRUCTURED = "conformance/structured.test.ts";
const META_CONTEXTS = "conformance/meta-contexts.test.ts";
const EXTENDED = "conformance/extended.test.ts";
const CONTEXTS = "conformance/contexts.test.ts";
const TLS = "conformance/tls.test.ts";
const MACHINE = "unit/handshake/machine.test.ts";
const STRICT = "support/strict-client.ts";
const CHECKED = "../src/client/rules.ts";
const FLAGS = "unit/handshake/transmission-flags.test.ts";
const EXPORTS = "differential/exports.test.ts";

const must = (rule: string, ...tests: string[]): Rule => ({ level: "MUST", rule, tests });
const should = (rule: string, ...tests: string[]): Rule => ({ level: "SHOULD", rule, tests });
const may = (rule: string, ...tests: string[]): Rule => ({ level: "MAY", rule, tests });

export const sections: readonly Section[] = [
  {
    title: "Conventions",
    rules: [
      must(
        "Strings are UTF-8 without NUL, of 4096 bytes at most",
        `${MACHINE}: a name that is not UTF-8`,
        `${CHECKED}: no string is longer than 4096 bytes`,
      ),
    ],
  },
  {
    title: "Newstyle negotiation",
    rules: [
      must(
        "A client flag that was not offered ends the connection",
        `${MACHINE}: that were not offered`,
      ),
      must(
        "An export that cannot be opened by NBD_OPT_EXPORT_NAME ends the connection",
        `${MACHINE}: an export that cannot be opened`,
      ),
      must(
        "Options that the server does not know are refused, their data is skipped, and haggling goes on",
        `${MACHINE}: is unsupported, its data skipped`,
        `${HANDSHAKE}: skips the data of an unknown option`,
      ),
      should(
        "A client that breaks the protocol loses its connection, and no other does",
        `${HANDSHAKE}: survives garbage at every stage and still serves`,
        "fuzz/handshake.test.ts: any client gets an outcome",
      ),
    ],
  },
  {
    title: "Oldstyle negotiation",
    rules: [
      may(
        "Size and flags are sent at once, with 124 zeroes",
        `${HANDSHAKE}: sends size and flags at once, and serves`,
      ),
    ],
  },
  {
    title: "Termination of the session during option haggling",
    rules: [
      must(
        "NBD_OPT_ABORT is acknowledged, and ends the session",
        `${MACHINE}: NBD_OPT_ABORT is acknowledged`,
      ),
      {
        level: "SHOULD",
        rule: "A server that stops answers further options with NBD_REP_ERR_SHUTDOWN",
        why: "Not kept: a handshake that has not ended when the server stops is closed at once.",
      },
    ],
  },
  {
    title: "Transmission",
    rules: [
      must(
        "Replies carry the cookie of their request, and may come in any order",
        `${TRANSMISSION}: is answered under its own cookie among many in one packet`,
        `${CHECKED}: a reply has the cookie of an outstanding request`,
      ),
      must(
        "Without negotiation all replies are simple",
        `${CHECKED}: there are no chunks unless structured replies are negotiated`,
      ),
      must(
        "A flush is answered once the writes it covers are durable, and a write with FUA once it is durable",
        "e2e/plugin-interface.test.ts: FUA by flushing",
      ),
    ],
  },
  {
    title: "Request message",
    rules: [
      must(
        "A wrong magic number ends the connection",
        `${TRANSMISSION}: by a wrong magic number comes without a reply`,
        `${EXTENDED}: a compact request in their place ends the connection`,
      ),
      must(
        "With extended headers, writes must have NBD_CMD_FLAG_PAYLOAD_LEN",
        `${EXTENDED}: a write without NBD_CMD_FLAG_PAYLOAD_LEN is refused`,
      ),
      should(
        "A payload that does not belong to its command is skipped, and refused with NBD_EINVAL",
        `${EXTENDED}: a payload that does not belong to its command is skipped`,
      ),
      should(
        "A payload longer than the longest allowed ends the connection",
        `${EXTENDED}: a payload that is too long ends the connection`,
      ),
      must(
        "With extended headers, requests without a payload have lengths of 64 bits",
        `${EXTENDED}: ranges of more than 32 bits are zeroed, trimmed and cached`,
      ),
    ],
  },
  {
    title: "Simple reply message",
    rules: [
      must(
        "Once structured replies are negotiated, no read gets a simple reply",
        `${CHECKED}: a read has no simple reply once structured replies are negotiated`,
        `${STRUCTURED}: a read never gets a simple reply`,
      ),
      must(
        "With extended headers there are no simple replies",
        `${CHECKED}: there are no simple replies with extended headers`,
      ),
    ],
  },
  {
    title: "Structured reply chunk message",
    rules: [
      must(
        "Only the last chunk of a reply has NBD_REPLY_FLAG_DONE",
        `${CHECKED}: a reply has the cookie of an outstanding request`,
      ),
      must("Unknown reply flags are not set", `${CHECKED}: unknown reply flags are not set`),
      should("A reply has as few chunks as possible", `${EXTENDED}: small reads are not divided`),
    ],
  },
  {
    title: "Extended reply chunk message",
    rules: [
      must(
        "With extended headers every reply is made of these chunks, and repeats the offset of its request",
        `${CHECKED}: a reply repeats the offset of its request`,
      ),
    ],
  },
  {
    title: "Terminating the transmission phase",
    rules: [
      must(
        "After NBD_CMD_DISC, requests in flight are answered, then the connection is closed without a reply to it",
        `${TRANSMISSION}: by NBD_CMD_DISC comes after all replies`,
        `${STRICT}: NBD_CMD_DISC has no reply`,
      ),
      should(
        "A server that stops answers the requests in flight",
        "e2e/shutdown.test.ts: requests in flight at the signal are answered before the connection closes",
      ),
      should(
        "TLS is shut down before the stream is",
        `${TLS}: random reads and writes agree with a model`,
      ),
    ],
  },
  {
    title: "TLS support",
    rules: [
      must(
        "NOTLS: NBD_OPT_STARTTLS is refused, and nothing is answered with NBD_REP_ERR_TLS_REQD",
        `${TLS}: refuses STARTTLS by policy, and never answers TLS_REQD`,
      ),
      must(
        "FORCEDTLS: before TLS all options but ABORT and STARTTLS get NBD_REP_ERR_TLS_REQD, unknown ones too",
        `${TLS}: answers all options except ABORT and STARTTLS with TLS_REQD`,
      ),
      must(
        "FORCEDTLS: NBD_OPT_EXPORT_NAME before TLS ends the session",
        `${TLS}: ends the connection at EXPORT_NAME`,
      ),
      must(
        "Once TLS is on, NBD_REP_ERR_TLS_REQD is not sent",
        `${TLS}: never answers TLS_REQD once TLS is on`,
      ),
      must(
        "SELECTIVETLS: clients are served with and without TLS",
        `${TLS}: serves clients with and without TLS`,
      ),
      must(
        "A TLS handshake that fails ends the session",
        `${TLS}: refuses a certificate of an untrusted authority`,
        "e2e/tls.test.ts: a wrong key and an unknown user are refused",
      ),
      must(
        "NBD_OPT_STARTTLS has no data, and is invalid a second time",
        `${TLS}: takes no data`,
        `${TLS}: is invalid a second time`,
      ),
      must(
        "Nothing that was negotiated before TLS is kept",
        `${TLS}: makes the server forget structured replies, extended headers and contexts`,
      ),
      must(
        "Plain text that was sent early is never taken for encrypted data",
        `${TLS}: never accepts plain text sent after it`,
      ),
      must(
        "TLS 1.2 is supported; newer versions should be, older ones should not",
        `${TLS}: random reads and writes agree with a model`,
        `${TLS}: refuses %s`,
      ),
    ],
  },
  {
    title: "Size constraints",
    rules: [
      must(
        "Announced block sizes are enforced: requests that are not multiples are refused",
        `${CONTEXTS}: are enforced for a client that was told of them`,
      ),
      should(
        "Requests of clients that did not ask for block sizes are not refused for it",
        `${CONTEXTS}: are not enforced for a client that has not asked`,
      ),
      must(
        "A plugin's invalid block sizes are never announced",
        `${MACHINE}: if its block sizes are unavailable`,
      ),
      should(
        "Payloads up to 32 MiB are served; this server takes up to 64 MiB",
        `${TRANSMISSION}: of 64 MiB is written and read back; one byte more is EINVAL`,
      ),
      must(
        "Ranges outside the export are refused, without overflow",
        `${EXTENDED}: errors are answered, and the connection goes on`,
        "native/check_test.cpp: a range is inside only if its end is, without any overflow",
      ),
    ],
  },
  {
    title: "Metadata querying",
    rules: [
      must(
        "A reply to NBD_CMD_BLOCK_STATUS has one chunk for each requested context",
        `${CHECKED}: each selected meta context is answered`,
      ),
      should(
        "NBD_CMD_BLOCK_STATUS without contexts gets NBD_EINVAL",
        `${EXTENDED}: errors are answered`,
      ),
      must(
        "Contexts have a namespace, a colon and a leaf; the namespace base: is the specification's",
        "unit/contexts.test.ts: names and bits are checked",
      ),
      must(
        "The query base: selects nothing, but lists the contexts in that namespace",
        `${META_CONTEXTS}: selects none, and then there is no block status`,
      ),
      must(
        "Queries of unknown namespaces are ignored",
        `${CONTEXTS}: are listed by name, by namespace, and all of them`,
      ),
      should(
        "Extents are multiples of the minimum block size, and equal neighbours are merged",
        "native/sparse_test.cpp: aligned extents end at block boundaries",
      ),
    ],
  },
  {
    title: "Handshake flags and client flags",
    rules: [
      must(
        "If NBD_FLAG_NO_ZEROES is negotiated, the 124 zeroes are left out",
        `${MACHINE}: gives size and flags without zeroes`,
      ),
      must("Other flags are not set", `${MACHINE}: offers the fixed newstyle and no zeroes`),
    ],
  },
  {
    title: "Transmission flags",
    rules: [
      must("NBD_FLAG_HAS_FLAGS is always set", `${CHECKED}: NBD_FLAG_HAS_FLAGS is always set`),
      must(
        "A read-only export refuses requests that modify it with NBD_EPERM",
        `${TRANSMISSION}: that modifies a read-only export gets EPERM`,
      ),
      must(
        "NBD_FLAG_SEND_DF only with structured replies or extended headers",
        `${CHECKED}: NBD_FLAG_SEND_DF needs structured or extended replies`,
      ),
      must(
        "NBD_FLAG_SEND_FAST_ZERO only with NBD_FLAG_SEND_WRITE_ZEROES",
        `${CHECKED}: NBD_FLAG_SEND_FAST_ZERO comes with NBD_FLAG_SEND_WRITE_ZEROES`,
      ),
      must(
        "NBD_FLAG_CAN_MULTI_CONN only if a flush covers all connections",
        `${FLAGS}: offer %j for a read-only export, too`,
        `${EXPORTS}: of %s is the same`,
      ),
      must(
        "NBD_FLAG_BLOCK_STATUS_PAYLOAD only with extended headers, and should be only with contexts",
        `${CHECKED}: NBD_FLAG_BLOCK_STATUS_PAYLOAD needs extended headers`,
        `${EXTENDED}: status payloads are offered only if a context was selected`,
      ),
    ],
  },
  {
    title: "Option types",
    rules: [
      must(
        "NBD_OPT_EXPORT_NAME is not for clients with extended headers",
        `${EXTENDED}: forbids NBD_OPT_EXPORT_NAME`,
      ),
      must(
        "NBD_OPT_LIST takes no data; if the exports cannot be listed, it gets an error",
        `${MACHINE}: that fails is answered NBD_REP_ERR_PLATFORM`,
      ),
      must(
        "NBD_OPT_INFO and NBD_OPT_GO answer with NBD_INFO_EXPORT before the acknowledgement",
        `${STRICT}: NBD_INFO_EXPORT comes before the acknowledgement`,
      ),
      must("Unknown information requests are ignored", `${MACHINE}: ignore unknown kinds`),
      must(
        "Options with inconsistent lengths get NBD_REP_ERR_INVALID",
        `${MACHINE}: answer NBD_REP_ERR_INVALID to %s, and go on`,
      ),
      must(
        "No zeroes follow NBD_OPT_GO",
        "fuzz/handshake.test.ts: what comes after the handshake belongs to the transmission phase",
      ),
      must("NBD_OPT_STRUCTURED_REPLY takes no data", `${STRUCTURED}: takes no data`),
      must(
        "NBD_OPT_EXTENDED_HEADERS takes no data, and needs no structured replies",
        `${EXTENDED}: takes no data, and is acknowledged without structured replies`,
      ),
      must(
        "NBD_OPT_EXTENDED_HEADERS takes precedence over structured replies",
        `${EXTENDED}: takes precedence over structured replies, before and after`,
      ),
      must(
        "NBD_OPT_LIST_META_CONTEXT without queries lists all, with the id 0",
        `${CONTEXTS}: are listed by name, by namespace, and all of them`,
      ),
      should(
        "If a listed context needs more than 32 bits, the list ends with NBD_REP_ERR_EXT_HEADER_REQD",
        `${CONTEXTS}: are listed by name, by namespace, and all of them`,
      ),
      must(
        "NBD_OPT_SET_META_CONTEXT needs structured replies or extended headers",
        `${META_CONTEXTS}: need structured replies`,
        `${EXTENDED}: meta contexts do not also need structured replies`,
      ),
      must(
        "Each NBD_OPT_SET_META_CONTEXT replaces the one before it, even if it fails",
        `${META_CONTEXTS}: are replaced by each new selection, even one that fails`,
      ),
      must(
        "Contexts are valid only for the export for which they were selected",
        `${META_CONTEXTS}: of another export cannot be used`,
        `${CONTEXTS}: may differ between exports`,
      ),
      must(
        "Contexts of more than 32 bits are left out without extended headers",
        `${CONTEXTS}: of 64 bits are left out if only structured replies were negotiated`,
      ),
      must("Ids of contexts are unique", `${STRICT}: context ids are unique`),
    ],
  },
  {
    title: "Command flags",
    rules: [
      must(
        "Once it is offered, NBD_CMD_FLAG_FUA is accepted with every command",
        "native/check_test.cpp: a command or flag that was not offered is refused",
      ),
      must(
        "NBD_CMD_FLAG_DF gets one content chunk at most",
        `${CHECKED}: NBD_CMD_FLAG_DF allows one content chunk`,
        `${EXTENDED}: NBD_CMD_FLAG_DF gets one chunk of data`,
      ),
      must(
        "NBD_CMD_FLAG_REQ_ONE gets one extent, no longer than the request",
        `${STRICT}: NBD_CMD_FLAG_REQ_ONE gets one descriptor`,
        `${META_CONTEXTS}: REQ_ONE: one extent`,
      ),
      must(
        "NBD_CMD_FLAG_FAST_ZERO fails at once if zeroing is not fast",
        "differential/requests.test.ts: have the same errors and effects",
      ),
      must(
        "A flag that the command does not have gets NBD_EINVAL",
        "native/check_test.cpp: every unknown command and every unknown flag is EINVAL",
      ),
    ],
  },
  {
    title: "Structured reply types",
    rules: [
      must(
        "NBD_REPLY_TYPE_NONE is empty, and the last chunk",
        `${CHECKED}: NBD_REPLY_TYPE_NONE is empty, and the last chunk`,
      ),
      must(
        "Data and holes lie in the range, do not overlap, and are not empty",
        `${CHECKED}: content lies in the range asked for`,
        `${CHECKED}: content does not overlap earlier chunks`,
        `${CHECKED}: a hole is a chunk of 12 bytes, and not empty`,
      ),
      must(
        "A status chunk has at least one extent, and none that is empty",
        `${CHECKED}: a status chunk has whole descriptors, at least one`,
        `${CHECKED}: no descriptor is empty`,
      ),
      must(
        "All extents but the last lie in the range",
        `${CHECKED}: only the last descriptor reaches beyond the range asked for`,
      ),
      must(
        "NBD_REPLY_TYPE_BLOCK_STATUS_EXT is used with extended headers, and only then; its count is right",
        `${CHECKED}: NBD_REPLY_TYPE_BLOCK_STATUS_EXT comes with extended headers, and only then`,
        `${CHECKED}: a descriptor count is right`,
      ),
      must(
        "Errors are those of the specification, and not 0",
        `${STRICT}: errors are those of the specification, and not 0`,
      ),
      must(
        "An error's offset lies in the range",
        `${CHECKED}: an error's offset lies in the range asked for`,
        `${EXTENDED}: of a C plugin follow the data read before them`,
      ),
      must(
        "An error's message is UTF-8 of 4096 bytes at most",
        `${CHECKED}: no string is longer than 4096 bytes`,
        `${STRUCTURED}: errors have the plugin's message`,
      ),
    ],
  },
  {
    title: "Request types",
    rules: [
      must(
        "A read's content covers its range",
        `${CHECKED}: a successful read has all of its range`,
      ),
      should(
        "Chunks are multiples of 512 bytes where they can be",
        `${EXTENDED}: of a TypeScript plugin have chunks in multiples of 512 bytes`,
      ),
      should(
        "Requests with length zero do not end the connection",
        `${EXTENDED}: errors are answered, and the connection goes on`,
      ),
      should(
        "Writes past the end get NBD_ENOSPC, other requests there NBD_EINVAL",
        `${EXTENDED}: errors are answered, and the connection goes on`,
      ),
      must(
        "What is zeroed reads as zeroes",
        `${EXTENDED}: random reads and writes, many in flight, agree with a model`,
      ),
      must(
        "The payload of NBD_CMD_BLOCK_STATUS names the contexts to report; unknown ones and duplicates get NBD_EINVAL",
        `${EXTENDED}: a block status covers the contexts that its payload names`,
      ),
      {
        level: "MAY",
        rule: "NBD_CMD_RESIZE",
        why: "A draft that no client or server has; it gets NBD_EINVAL, as any unknown command.",
      },
    ],
  },
  {
    title: "Error values",
    rules: [
      should(
        "NBD_ENOTSUP only for fast zeroes, NBD_EOVERFLOW only for NBD_CMD_FLAG_DF",
        "native/wire_test.cpp: only errors of the specification reach a client",
      ),
      should(
        "Commands that the export does not offer get NBD_EINVAL",
        "native/check_test.cpp: a command or flag that was not offered is refused",
      ),
    ],
  },
];

/** docs/conformance.md. */
export function render(): string {
  const lines = [
    "# What the specification requires, and how it is tested",
    "",
    "The rules for servers of",
    "[the NBD protocol](https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md)",
    "and of its",
    "[extended headers](https://github.com/NetworkBlockDevice/nbd/blob/extension-ext-header/doc/proto.md),",
    "under its headings and in our words, with the tests in `test/` that fail if a rule is broken. A check in",
    "`support/strict-client.ts`, or a rule of our client in `src/client/rules.ts`, is applied to every",
    "reply in every test that uses the strict client.",
    "",
    "Made from `test/conformance/rules.ts` by `npm run conformance`; do not edit.",
  ];
  for (const { title, rules } of sections) {
    lines.push("", `## ${title}`, "", "| | rule | tested by |", "|---|---|---|");
    for (const { level, rule, tests = [], why } of rules) {
      const by = tests.map((one) => {
        const [file = "", ...words] = one.split(": ");
        return `${words.join(": ")} (\`${file.replace("../", "")}\`)`;
      });
      lines.push(`| ${level} | ${rule} | ${why ?? by.join("; ")} |`);
    }
  }
  return `${lines.join("\n")}\n`;
}
