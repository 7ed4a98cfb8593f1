// A filter that has been configured: makes the layers that stand in front of plugins, one for each
// client, and what they share.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "backend/backend.hpp"
#include "backend/resources.hpp"

namespace asyncnbd::backend {

// What a filter keeps of one disk for all its clients, from the first open to the server's end.
class DiskState {
public:
  virtual ~DiskState() = default;
};

// Functions may block. They fail by leaving words for the user in `*error`.
class Filter {
public:
  virtual ~Filter() = default;
  virtual const char *name() const = 0;

  // Whether what is behind it is to be opened read-only.
  virtual bool opens_readonly(bool is_readonly) const { return is_readonly; }

  // Whether new_disk makes something: clients of one disk must then be told from those of others.
  virtual bool keeps_state() const { return false; }

  // Once a disk, when it is first opened; nullptr if there is nothing to keep, or on failure.
  virtual std::unique_ptr<DiskState> new_disk(const Capabilities &below, std::string *error) {
    (void)below, (void)error;
    return nullptr;
  }

  // In front of `below`, which is open; nullptr on failure, and then `*below` is untouched.
  // `is_readonly`: the client's wish. `disk`: from new_disk, and outlives the layer.
  virtual std::unique_ptr<Backend> open(std::unique_ptr<Backend> *below, bool is_readonly,
                                        DiskState *disk, std::string *error) = 0;
};

} // namespace asyncnbd::backend
