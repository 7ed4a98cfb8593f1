// Who is told of a request's end: a stack, from its maker at the bottom to the layer that passed it
// on last.
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
  // `error` is 0 or an errno; for a read, 0 means that its data is where its answer says. Called on
  // any thread, perhaps inside submit, perhaps under locks of the plugin: must not submit, block or
  // wait for a client, except on a thread that is inside submit. A layer pops itself, undoes its
  // changes to the request, and completes it to the next.
  virtual void complete(Request &request, int error) = 0;
  // Instead of complete, for a request that the backend may go on using: it, its data and the chain
  // stay until its maker's `release`.
  virtual void give_up(Request &request, int error) = 0;
};

// Makes a request, and owns its memory.
class Maker : public Completer {
public:
  // For a request that has been given up: nobody uses it any more.
  virtual void release(Request &request) = 0;
  // The client cannot be reached any more. The request must be completed all the same.
  virtual bool client_has_gone() const = 0;
};

// A stack in the request. Used by the current owner of the request, one thread at a time.
class Completers {
public:
  // For the request's maker, when it uses the request again.
  void reset(Maker &maker) {
    maker_ = &maker;
    depth_ = 0;
  }
  Maker &maker() const { return *maker_; }

  // False: not enough memory.
  bool push(Completer &completer, void *state = nullptr);
  // Called by the completer at the top, which pops itself. Returns the state that it has pushed.
  void *pop(const Completer &completer);
  Completer &top() const { return depth_ == 0 ? *maker_ : *frame(depth_ - 1).completer; }

private:
  struct Frame {
    Completer *completer;
    void *state;
  };
  // Enough for the layers of most chains; further ones are allocated.
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
