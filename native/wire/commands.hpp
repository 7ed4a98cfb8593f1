// The commands that clients send, and what each may carry and needs: the one table of them.
#pragma once

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>

#include "wire/constants.hpp"

namespace asyncnbd::wire {

// "Request types". src/protocol.ts has them too.
constexpr uint16_t NBD_CMD_READ = 0;
constexpr uint16_t NBD_CMD_WRITE = 1;
constexpr uint16_t NBD_CMD_DISC = 2;
constexpr uint16_t NBD_CMD_FLUSH = 3;
constexpr uint16_t NBD_CMD_TRIM = 4;
constexpr uint16_t NBD_CMD_CACHE = 5;
constexpr uint16_t NBD_CMD_WRITE_ZEROES = 6;
constexpr uint16_t NBD_CMD_BLOCK_STATUS = 7;

struct Command {
  const char *name;             // for messages
  const char *callback = "";    // nbdkit's name of what serves it; "": nothing does
  uint16_t allowed_flags = 0;   // NBD_CMD_FLAG_*, besides NBD_CMD_FLAG_FUA
  uint16_t needed_flags = 0;    // NBD_FLAG_*: it is refused where they are not offered
  bool modifies = false;        // refused on a read-only export
  bool has_range = true;        // offset and length mean something
  bool payload_limited = false; // the length is also the payload's, of the request or the reply
  bool needs_contexts = false;  // refused if the client has selected no metadata contexts
  int out_of_range = EINVAL;    // the errno of a range that is not inside the export
  uint32_t answer_bytes = 0;    // expected, if the answer is in chunks of its own
};

// By number.
inline constexpr auto COMMANDS = std::to_array<Command>({
    {.name = "read",
     .callback = "pread",
     .allowed_flags = NBD_CMD_FLAG_DF,
     .payload_limited = true},
    {.name = "write",
     .callback = "pwrite",
     .modifies = true,
     .payload_limited = true,
     .out_of_range = ENOSPC},
    {.name = "disconnect"},
    {.name = "flush", .callback = "flush", .needed_flags = NBD_FLAG_SEND_FLUSH, .has_range = false},
    {.name = "trim", .callback = "trim", .needed_flags = NBD_FLAG_SEND_TRIM, .modifies = true},
    {.name = "cache", .callback = "cache", .needed_flags = NBD_FLAG_SEND_CACHE},
    {.name = "write zeroes",
     .callback = "zero",
     .allowed_flags = NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO,
     .needed_flags = NBD_FLAG_SEND_WRITE_ZEROES,
     .modifies = true,
     .out_of_range = ENOSPC},
    {.name = "block status",
     .callback = "extents",
     .allowed_flags = NBD_CMD_FLAG_REQ_ONE,
     .needs_contexts = true,
     .answer_bytes = 64 << 10},
});

constexpr const char *command_name(uint16_t type) {
  return type < COMMANDS.size() ? COMMANDS[type].name : "unknown";
}

constexpr const char *callback_name(uint16_t type) {
  return type < COMMANDS.size() ? COMMANDS[type].callback : "";
}

// nullptr: no backend serves it.
constexpr const Command *served_command(uint16_t type) {
  return *callback_name(type) == '\0' ? nullptr : &COMMANDS[type];
}

constexpr uint32_t answer_bytes(uint16_t type) {
  return type < COMMANDS.size() ? COMMANDS[type].answer_bytes : 0;
}

// Whether it changes the disk, so that read-only clients may not send it.
constexpr bool is_change(uint16_t type) {
  return type < COMMANDS.size() && COMMANDS[type].modifies;
}

} // namespace asyncnbd::wire
