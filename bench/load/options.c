/* See options.h. */
#include "options.h"

#include <argp.h>
#include <stdlib.h>
#include <string.h>

#define MAX_DEPTH 8192
#define MAX_CONNECTIONS 4096
#define MAX_BLOCK_BYTES (32u << 20)

struct options options = {
    .export_name = "",
    .block_bytes = 4096,
    .depth = 32,
    .connections = 1,
    .read_percent = 100,
    .others = COMMAND_WRITE,
    .seconds = 3,
    .warm_up_seconds = 0.2,
};

enum {
  KEY_IDLE = 256,
  KEY_CHURN,
  KEY_RAW,
  KEY_BARE,
  KEY_FILE,
  KEY_STRUCTURED,
  KEY_TLS,
  KEY_EXPORT
};

static const struct argp_option known[] = {
    {"block-size", 'b', "BYTES", 0, "Of each request (default: 4096)", 0},
    {"depth", 'd', "N", 0, "Requests in flight on each connection (default: 32)", 0},
    {"connections", 'c', "N", 0, "How many (default: 1)", 0},
    {"reads", 'r', "PERCENT", 0, "Of all requests (default: 100)", 0},
    {"others", 'o', "KIND", 0, "Than reads: write, fua, trim or zero (default: write)", 0},
    {"sequential", 'q', NULL, 0, "One block after the other instead of at random", 0},
    {"verify", 'v', NULL, 0, "Write known data, and compare what is read", 0},
    {"warm-up", 'w', "SECONDS", 0, "Before measuring (default: 0.2)", 0},
    {"seconds", 's', "SECONDS", 0, "Of measuring (default: 3)", 0},
    {"count", 'n', "N", 0, "End after so many requests instead, measuring all", 0},
    {"pid", 'p', "PID", 0, "The server's, to tell the processor time it takes", 0},
    {"export", KEY_EXPORT, "NAME", 0, "Of the server (default: the one without a name)", 0},
    {"structured", KEY_STRUCTURED, NULL, 0, "Ask for structured replies, as most clients do", 0},
    {"tls", KEY_TLS, NULL, 0, "Encrypted; any certificate will do", 0},
    {"idle", KEY_IDLE, NULL, 0, "No requests: only keep the connections open", 0},
    {"churn", KEY_CHURN, NULL, 0, "Connect, read once and leave, again and again", 0},
    {"raw", KEY_RAW, NULL, 0, "No server: a process that sends blocks without being asked", 0},
    {"bare", KEY_BARE, "unix|tcp", 0, "No server: two ends that know what comes next", 0},
    {"file", KEY_FILE, "FILE", 0, "With --bare: whose pages are read and written", 0},
    {0}};

static unsigned long number(struct argp_state *state, const char *text, unsigned long least,
                            unsigned long most) {
  char *end;
  const unsigned long value = strtoul(text, &end, 10);
  if (*end != '\0' || end == text || value < least || value > most)
    argp_error(state, "%s is not a number from %lu to %lu", text, least, most);
  return value;
}

static double seconds(struct argp_state *state, const char *text) {
  char *end;
  const double value = strtod(text, &end);
  if (*end != '\0' || end == text || value < 0)
    argp_error(state, "%s is not a number of seconds", text);
  return value;
}

static enum command kind(struct argp_state *state, const char *text) {
  static const struct {
    const char *name;
    enum command command;
  } kinds[] = {{"write", COMMAND_WRITE},
               {"fua", COMMAND_WRITE_DURABLY},
               {"trim", COMMAND_TRIM},
               {"zero", COMMAND_ZERO}};
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
    if (strcmp(text, kinds[i].name) == 0)
      return kinds[i].command;
  argp_error(state, "%s is not write, fua, trim or zero", text);
  return COMMAND_WRITE;
}

/* What only all of them together can tell. */
static void check(struct argp_state *state) {
  const bool needs_server = options.mode != MODE_RAW && options.mode != MODE_BARE;
  if ((options.where != NULL) != needs_server)
    argp_usage(state);
  if (options.verifies && options.block_bytes % sizeof(uint64_t) != 0)
    argp_error(state, "to verify, blocks must be multiples of 8 bytes");
  if (options.verifies && !carries_data(options.others))
    argp_error(state, "what is trimmed or zeroed is not verified");
}

static void use_bare(struct argp_state *state, const char *transport) {
  options.mode = MODE_BARE;
  options.bare_is_tcp = strcmp(transport, "tcp") == 0;
  if (!options.bare_is_tcp && strcmp(transport, "unix") != 0)
    argp_error(state, "%s is not unix or tcp", transport);
}

static error_t parse(int key, char *argument, struct argp_state *state) {
  switch (key) {
  case 'b':
    options.block_bytes = (uint32_t)number(state, argument, 1, MAX_BLOCK_BYTES);
    return 0;
  case 'd':
    options.depth = number(state, argument, 1, MAX_DEPTH);
    return 0;
  case 'c':
    options.connections = number(state, argument, 1, MAX_CONNECTIONS);
    return 0;
  case 'r':
    options.read_percent = (unsigned)number(state, argument, 0, 100);
    return 0;
  case 'o':
    options.others = kind(state, argument);
    return 0;
  case 'q':
    options.is_sequential = true;
    return 0;
  case 'v':
    options.verifies = true;
    return 0;
  case 'w':
    options.warm_up_seconds = seconds(state, argument);
    return 0;
  case 's':
    options.seconds = seconds(state, argument);
    return 0;
  case 'n':
    options.count = number(state, argument, 1, UINT32_MAX);
    return 0;
  case 'p':
    options.server = (pid_t)number(state, argument, 1, 1 << 30);
    return 0;
  case KEY_EXPORT:
    options.export_name = argument;
    return 0;
  case KEY_STRUCTURED:
    options.is_structured = true;
    return 0;
  case KEY_TLS:
    options.is_encrypted = true;
    return 0;
  case KEY_IDLE:
    options.mode = MODE_IDLE;
    return 0;
  case KEY_CHURN:
    options.mode = MODE_CHURN;
    return 0;
  case KEY_RAW:
    options.mode = MODE_RAW;
    return 0;
  case KEY_BARE:
    use_bare(state, argument);
    return 0;
  case KEY_FILE:
    options.bare_file = argument;
    return 0;
  case ARGP_KEY_ARG:
    if (options.where != NULL)
      argp_usage(state);
    options.where = argument;
    return 0;
  case ARGP_KEY_END:
    check(state);
    return 0;
  default:
    return ARGP_ERR_UNKNOWN;
  }
}

void parse_options(int argc, char **argv) {
  const struct argp argp = {
      .options = known,
      .parser = parse,
      .args_doc = "SOCKET|PORT",
      .doc = "Keeps an NBD server busy, and prints what it did as a JSON object.\v"
             "One thread asks and receives in batches, and keeps no data unless it verifies, so "
             "that it is the server that is measured."};
  argp_parse(&argp, argc, argv, 0, NULL, NULL);
}
