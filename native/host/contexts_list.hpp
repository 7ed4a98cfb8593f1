// The list behind struct asyncnbd_meta_contexts.
#pragma once

#include <string>
#include <vector>

struct asyncnbd_meta_contexts {
  struct Entry {
    std::string name;
    unsigned bits; // bits in a status
  };

  std::vector<Entry> entries;
};
