// Variables that are thread_local, of this program: they lie in one piece, which each fiber has its
// own content of.
#pragma once

#include <vector>

namespace simulation {

struct ThreadLocals {
  void *place = nullptr; // of the calling thread
  std::vector<char> initial;
};

ThreadLocals find_thread_locals();

} // namespace simulation
