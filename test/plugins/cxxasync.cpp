// An asynchronous disk in C++ whose offset decides how a request is answered: each 64 KiB region
// has a way of its own, for reads and writes alike. Regions and their names are those of
// test/e2e/async-cpp.test.ts.
//
// throw-in=MEMBER throws there; at the end a line
// says how many answers were accepted and refused.

#include <nbdkit-async.hpp>

#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <future>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace {

enum class Way {
  inline_buffer, // inside the callback
  later,         // on the thread
  from_memory,   // from memory that changes right after
  lent_function, // lent, with a function that gives it back
  lent_owner,    // lent, with an owner that gives it back, as an exception would
  drop_inline,
  drop_later,
  throw_system, // std::system_error: ENOSPC
  throw_memory, // std::bad_alloc
  throw_runtime,
  throw_number,
  throw_after_answer,
  throw_after_moving, // to the thread, which answers
  answer_twice,
  fail_later,      // ENOSPC
  fail_exception,  // on the thread, what it has caught: ENOMEM
  reversed,        // sixteen of them, the last first
  late,            // reads when a write comes, perhaps of another client
  assign_over_one, // the one before it in this region is dropped by assignment
  throw_reported,  // ENOSPC, and nothing in the log
  throw_by_queue,  // a closure that owns the request is destroyed by an exception: ENOSPC
  throw_foreign,   // a code of another category: EIO
  from_nothing,    // an answer of a request that was moved away
};

constexpr uint64_t REGION_BYTES = 64 << 10;
constexpr uint64_t SIZE_BYTES = 64 * REGION_BYTES;
constexpr size_t REVERSED = 16;

// By any thread, perhaps after everything else.
std::atomic<unsigned> released{0};

// std::function wants what can be copied.
struct Task {
  virtual ~Task() = default;
  virtual void run() = 0;
};

template <class F> struct TaskOf : Task {
  explicit TaskOf(F &&given) : call(std::move(given)) {}
  void run() override { call(); }
  F call;
};

class Thread {
public:
  void start() {
    thread_ = std::thread([this] { work(); });
  }
  void stop() {
    add(nullptr);
    if (thread_.joinable())
      thread_.join();
  }
  template <class F> void run(F call) { add(std::make_unique<TaskOf<F>>(std::move(call))); }

private:
  void add(std::unique_ptr<Task> task) {
    std::lock_guard lock(mutex_);
    tasks_.push_back(std::move(task));
    wake_.notify_one();
  }
  void work() {
    for (;;) {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return !tasks_.empty(); });
      std::vector<std::unique_ptr<Task>> tasks = std::move(tasks_);
      tasks_.clear();
      lock.unlock();
      for (const std::unique_ptr<Task> &task : tasks) {
        if (task == nullptr)
          return;
        task->run();
      }
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<std::unique_ptr<Task>> tasks_;
  std::thread thread_;
};

class Disk;

// A client's open export, which says of itself what it was opened as.
class Export {
public:
  Export(Disk &disk, std::string name) : disk_(disk), name_(std::move(name)) {}
  ~Export();

  uint64_t get_size();
  std::string export_description();
  nbdkit::BlockSize block_size();
  bool can_write();
  bool can_flush();
  bool is_rotational();
  bool can_trim();
  bool can_zero();
  bool can_fast_zero();
  bool can_multi_conn();
  bool can_extents();
  nbdkit::Fua can_fua();
  nbdkit::Cache can_cache();

  void read(nbdkit::ReadRequest request);
  void write(nbdkit::WriteRequest request);
  void flush(nbdkit::FlushRequest request);
  void trim(nbdkit::TrimRequest request);
  void zero(nbdkit::ZeroRequest request);
  void cache(nbdkit::CacheRequest request);
  void extents(nbdkit::ExtentsRequest request);

private:
  Disk &disk_;
  std::string name_;
};

class Disk {
public:
  static constexpr const char *longname = "ways to answer";
  static constexpr const char *version = "1.2.3";
  static constexpr const char *description = "every way in which C++ can answer";
  static constexpr const char *config_help = "throw-in=<MEMBER>       Where to throw.";
  static constexpr const char *magic_config_key = "throw-in";

  bool config(std::string_view key, std::string_view value) {
    if (key != "throw-in")
      return false;
    throw_in_ = value;
    maybe_throw("config");
    return true;
  }
  void config_complete() { maybe_throw("config_complete"); }
  int thread_model() {
    maybe_throw("thread_model");
    return NBDKIT_THREAD_MODEL_ASYNC;
  }
  void get_ready() {
    maybe_throw("get_ready");
    memory_.resize(SIZE_BYTES);
  }
  void after_fork() {
    maybe_throw("after_fork");
    thread_.start();
  }
  void drained() { maybe_throw("drained"); }
  void cleanup() {
    thread_.stop();
    fprintf(stderr, "cxxasync: %u accepted, %u refused, %u released, %u open\n", accepted_.load(),
            refused_.load(), released.load(), open_.load());
    maybe_throw("cleanup");
  }
  void dump_plugin() {
    printf("threads=1\n");
    fflush(stdout);
    maybe_throw("dump_plugin");
  }
  void preconnect(bool) { maybe_throw("preconnect"); }
  void list_exports(bool, bool, nbdkit::Exports &exports) {
    maybe_throw("list_exports");
    exports.add("one", "the first");
    exports.add("two");
  }
  std::string default_export(bool, bool) {
    maybe_throw("default_export");
    return "one";
  }
  std::unique_ptr<Export> open(bool) {
    maybe_throw("open");
    open_++;
    return std::make_unique<Export>(*this, nbdkit_export_name());
  }

  void maybe_throw(const char *where) {
    if (throw_in_ == where)
      throw std::system_error(ENOSPC, std::generic_category(), std::string("thrown in ") + where);
  }
  void on_close() { open_--; }

  bool answer(nbdkit::ReadRequest &&request) {
    memcpy(request.buffer().data(), &memory_[request.offset()], request.count());
    return std::move(request).done();
  }
  bool answer(nbdkit::WriteRequest &&request) {
    memcpy(&memory_[request.offset()], request.data().data(), request.count());
    return std::move(request).done();
  }

  template <class R> void serve(R request) {
    switch (static_cast<Way>(request.offset() / REGION_BYTES)) {
    case Way::inline_buffer:
      return note(answer(std::move(request)));
    case Way::drop_inline:
      return;
    case Way::drop_later:
      return thread_.run([held = std::move(request)] {});
    case Way::answer_twice:
      return answer_twice(std::move(request));
    case Way::fail_later:
      return thread_.run(
          [this, held = std::move(request)]() mutable { note(std::move(held).fail(ENOSPC)); });
    case Way::fail_exception:
      return thread_.run([this, held = std::move(request)]() mutable { fail_by_exception(held); });
    case Way::from_nothing:
      return answer_from_nothing(std::move(request));
    case Way::late:
      answer_kept();
      return note(answer(std::move(request)));
    default:
      return serve_by_throwing(std::move(request));
    }
  }

  // What only reads can do.
  bool serve_as_read(nbdkit::ReadRequest &request) {
    const uint8_t *data = &memory_[request.offset()];
    switch (static_cast<Way>(request.offset() / REGION_BYTES)) {
    case Way::from_memory: {
      std::vector<uint8_t> own(data, data + request.count());
      note(std::move(request).done_from(own.data()));
      std::fill(own.begin(), own.end(), uint8_t{0xee});
      return true;
    }
    case Way::lent_function: {
      auto *own = new std::vector<uint8_t>(data, data + request.count());
      note(std::move(request).done_lent(own->data(), give_back, own));
      return true;
    }
    case Way::lent_owner: {
      auto own = std::make_shared<std::vector<uint8_t>>(data, data + request.count());
      const uint8_t *lent = own->data();
      note(std::move(request).done_lent(lent, [own = std::move(own)] {
        released++;
        throw std::runtime_error("thrown by a release");
      }));
      return true;
    }
    case Way::reversed:
      reverse(std::move(request));
      return true;
    case Way::late:
      return keep(std::move(request));
    case Way::assign_over_one:
      assign_over_one(std::move(request));
      return true;
    default:
      return false;
    }
  }

private:
  static void give_back(void *opaque) {
    released++;
    delete static_cast<std::vector<uint8_t> *>(opaque);
  }

  void note(bool is_accepted) { (is_accepted ? accepted_ : refused_)++; }

  template <class R> void later(R request) {
    thread_.run([this, held = std::move(request)]() mutable { note(answer(std::move(held))); });
  }

  template <class R> void answer_twice(R request) {
    note(answer(std::move(request)));
    note(std::move(request).fail(EIO));
    note(std::move(request).done());
    if (request)
      throw std::logic_error("it is still to be answered");
  }

  template <class R> void answer_from_nothing(R request) {
    R other = std::move(request);
    note(std::move(request).done());
    later(std::move(other));
  }

  template <class R> void fail_by_exception(R &request) {
    try {
      throw std::bad_alloc();
    } catch (...) {
      note(std::move(request).fail(std::current_exception()));
    }
  }

  template <class R> void serve_by_throwing(R request) {
    switch (static_cast<Way>(request.offset() / REGION_BYTES)) {
    case Way::throw_system:
      throw std::system_error(ENOSPC, std::generic_category(), "thrown");
    case Way::throw_memory:
      throw std::bad_alloc();
    case Way::throw_runtime:
      throw std::runtime_error("100% wrong: %s%n");
    case Way::throw_number:
      throw 42;
    case Way::throw_after_answer:
      note(answer(std::move(request)));
      throw std::runtime_error("thrown too late");
    case Way::throw_after_moving:
      later(std::move(request));
      throw std::runtime_error("thrown after moving");
    case Way::throw_reported:
      throw nbdkit::Reported(ENOSPC);
    case Way::throw_by_queue: {
      auto closure = [held = std::move(request)] {};
      throw std::system_error(std::make_error_code(std::errc::no_space_on_device));
    }
    case Way::throw_foreign:
      throw std::system_error(std::make_error_code(std::future_errc::no_state));
    default:
      return later(std::move(request));
    }
  }

  void reverse(nbdkit::ReadRequest request) {
    std::vector<nbdkit::ReadRequest> all;
    {
      std::lock_guard lock(mutex_);
      reversed_.push_back(std::move(request));
      if (reversed_.size() < REVERSED)
        return;
      std::swap(all, reversed_);
    }
    thread_.run([this, held = std::move(all)]() mutable {
      const nbdkit::Batch together;
      for (; !held.empty(); held.pop_back())
        note(answer(std::move(held.back())));
    });
  }

  bool keep(nbdkit::ReadRequest request) {
    std::lock_guard lock(mutex_);
    late_.push_back(std::move(request));
    return true;
  }

  void answer_kept() {
    std::vector<nbdkit::ReadRequest> all;
    {
      std::lock_guard lock(mutex_);
      std::swap(all, late_);
    }
    for (nbdkit::ReadRequest &request : all)
      note(answer(std::move(request)));
  }

  void assign_over_one(nbdkit::ReadRequest request) {
    std::lock_guard lock(mutex_);
    if (kept_ == nullptr) {
      kept_ = std::make_unique<nbdkit::ReadRequest>(std::move(request));
      return;
    }
    *kept_ = std::move(request);
    later(std::move(*kept_));
    kept_ = nullptr;
  }

  std::string throw_in_;
  std::vector<uint8_t> memory_;
  Thread thread_;
  std::mutex mutex_; // guards the next three
  std::vector<nbdkit::ReadRequest> reversed_;
  std::vector<nbdkit::ReadRequest> late_;
  std::unique_ptr<nbdkit::ReadRequest> kept_;
  std::atomic<unsigned> accepted_{0};
  std::atomic<unsigned> refused_{0};
  std::atomic<unsigned> open_{0};
};

Export::~Export() {
  disk_.on_close();
}
uint64_t Export::get_size() {
  disk_.maybe_throw("get_size");
  return SIZE_BYTES;
}
std::string Export::export_description() {
  disk_.maybe_throw("export_description");
  return "opened as " + name_;
}
nbdkit::BlockSize Export::block_size() {
  disk_.maybe_throw("block_size");
  return {1, 4096, 1 << 20};
}

// What a member says, unless it throws.
#define ANSWER(type, name, value)                                                                  \
  type Export::name() {                                                                            \
    disk_.maybe_throw(#name);                                                                      \
    return value;                                                                                  \
  }
ANSWER(bool, can_write, true)
ANSWER(bool, can_flush, true)
ANSWER(bool, is_rotational, true)
ANSWER(bool, can_trim, true)
ANSWER(bool, can_zero, true)
ANSWER(bool, can_fast_zero, true)
ANSWER(bool, can_multi_conn, true)
ANSWER(bool, can_extents, true)
ANSWER(nbdkit::Fua, can_fua, nbdkit::Fua::native)
ANSWER(nbdkit::Cache, can_cache, nbdkit::Cache::native)

void Export::read(nbdkit::ReadRequest request) {
  if (!disk_.serve_as_read(request))
    disk_.serve(std::move(request));
}
void Export::write(nbdkit::WriteRequest request) {
  if (request.has(nbdkit::Flag::fua))
    nbdkit_debug("write with FUA");
  disk_.serve(std::move(request));
}
void Export::flush(nbdkit::FlushRequest request) {
  nbdkit_debug("flushed");
  std::move(request).done();
}
void Export::trim(nbdkit::TrimRequest request) {
  nbdkit_debug("trimmed %u at %u fua=%d", request.count(), static_cast<unsigned>(request.offset()),
               request.has(nbdkit::Flag::fua));
  std::move(request).done();
}
void Export::zero(nbdkit::ZeroRequest request) {
  nbdkit_debug("zero fast=%d trim=%d fua=%d", request.has(nbdkit::Flag::fast_zero),
               request.has(nbdkit::Flag::may_trim), request.has(nbdkit::Flag::fua));
  std::move(request).fail(std::make_error_code(std::errc::not_supported));
}
void Export::cache(nbdkit::CacheRequest request) {
  nbdkit_debug("cached %u", request.count());
  std::move(request).done();
}
// A page of data and one that is a hole, and so on.
void Export::extents(nbdkit::ExtentsRequest request) {
  disk_.maybe_throw("extents");
  constexpr uint64_t PAGE_BYTES = 4096;
  const uint64_t end = request.offset() + request.count();
  const bool one = request.has(nbdkit::Flag::req_one);
  while (request.next() < end) {
    const uint64_t page = request.next() / PAGE_BYTES;
    request.add((page + 1) * PAGE_BYTES - request.next(),
                page % 2 == 0 ? nbdkit::Extent::data : nbdkit::Extent::hole_zero);
    if (one)
      break;
  }
  std::move(request).done();
}

} // namespace

NBDKIT_ASYNC_PLUGIN(Disk, "cxxasync")
