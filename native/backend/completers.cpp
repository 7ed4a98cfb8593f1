// See completers.hpp.
#include "backend/completers.hpp"

#include <new>

#include "base/invariant.hpp"

namespace asyncnbd::backend {

bool Completers::push(Completer &completer, void *state) {
  base::invariant(depth_ < MAX_INLINE + MORE, "a chain of at most 64 layers");
  if (depth_ >= MAX_INLINE && !more_)
    more_.reset(new (std::nothrow) std::array<Frame, MORE>);
  if (depth_ >= MAX_INLINE && !more_)
    return false;
  frame(depth_++) = {&completer, state};
  return true;
}

void *Completers::pop(const Completer &completer) {
  base::invariant(depth_ > 0, "a completer pops what it has pushed");
  const Frame &popped = frame(--depth_);
  base::invariant(popped.completer == &completer, "completers pop in turn");
  return popped.state;
}

} // namespace asyncnbd::backend
