// Who is to hear of a request's end, from its maker to the layer that has passed it on last.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace asyncnbd::backend {

struct Request;

// A layer that waits for the answer of a request it has passed on, or the request's maker.
class Completer {
public:
  virtual ~Completer() = default;
  // `error` is 0 or an errno; for a read, 0 means that its data are where its answer says. On any
  // thread, perhaps inside submit, perhaps under locks of the plugin: must neither submit anything
  // nor block, and waits for no client, except on a thread that is inside submit. A layer pops
  // itself, undoes what it has changed of the request, and completes it to the next.
  virtual void complete(Request &request, int error) = 0;
  // Instead of complete, for a request that the backend may go on using: it, its data and the chain
  // stay until its maker's `release`.
  virtual void give_up(Request &request, int error) = 0;
};

// Who has made a request, and owns its memory.
class Maker : public Completer {
public:
  // Of a request that has been given up: nobody uses it any more.
  virtual void release(Request &request) = 0;
  // The client cannot be reached any more; completing is as necessary as before.
  virtual bool client_has_gone() const = 0;
};

// A stack in the request. Whoever has the request uses it: one thread at a time.
class Completers {
public:
  // Of a request's maker, who starts anew.
  void reset(Maker &maker) {
    maker_ = &maker;
    depth_ = 0;
  }
  Maker &maker() const { return *maker_; }

  // False: there is no memory for so many.
  bool push(Completer &completer, void *state = nullptr);
  // By the completer at the top, of itself: the state it has pushed.
  void *pop(const Completer &completer);
  Completer &top() const { return depth_ == 0 ? *maker_ : *frame(depth_ - 1).completer; }

private:
  struct Frame {
    Completer *completer;
    void *state;
  };
  // As many layers as most chains have; more find memory elsewhere.
  static constexpr size_t MAX_INLINE = 4;
  static constexpr size_t MORE = 60;

  Frame &frame(size_t index) {
    return index < MAX_INLINE ? frames_[index] : (*more_)[index - MAX_INLINE];
  }
  const Frame &frame(size_t index) const {
    return index < MAX_INLINE ? frames_[index] : (*more_)[index - MAX_INLINE];
  }

  Maker *maker_;
  size_t depth_;
  std::array<Frame, MAX_INLINE> frames_;
  std::unique_ptr<std::array<Frame, MORE>> more_;
};

} // namespace asyncnbd::backend
