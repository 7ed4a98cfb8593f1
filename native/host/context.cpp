// See context.hpp.
#include "host/context.hpp"

#include <algorithm>
#include <sys/eventfd.h>
#include <unistd.h>
#include <utility>
#include <vector>

#include "base/mutex.hpp"
#include "base/thread_end.hpp"
#include "host/thread_state.hpp"

namespace asyncnbd::host {

namespace {

// Never destroyed: plugin threads may still ask while the process exits.
struct ServerList {
  base::Mutex<base::LockRank::servers> mutex;
  std::vector<ServerContext *> servers;
  std::vector<ShutdownWish *> wishes;
};

ServerList &server_list() {
  static ServerList *list = new ServerList;
  return *list;
}

} // namespace

ThreadState &thread_state() {
  constinit static thread_local ThreadState *state = nullptr;
  return state != nullptr ? *state : base::make_for_thread(state);
}

LogTarget *exchange_thread_log(LogTarget *target) {
  return std::exchange(thread_state().log, target);
}

ServerContext::ServerContext(std::function<void()> on_shutdown_requested,
                             std::shared_ptr<LogTarget> log)
    : stop_fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      on_shutdown_requested_(std::move(on_shutdown_requested)), log_(std::move(log)),
      owner_({}, log_) {
  ServerList &list = server_list();
  std::lock_guard lock(list.mutex);
  list.servers.push_back(this);
}

ServerContext::~ServerContext() {
  {
    ServerList &list = server_list();
    std::lock_guard lock(list.mutex);
    list.servers.erase(std::find(list.servers.begin(), list.servers.end(), this));
  }
  if (stop_fd_ != -1)
    ::close(stop_fd_);
}

void ServerContext::announce_stop() {
  is_stopping_.store(true);
  uint64_t one = 1;
  // Nobody reads the counter, so it stays readable; a failure means that it already is.
  if (stop_fd_ != -1)
    (void)!write(stop_fd_, &one, sizeof one);
}

ShutdownWish::ShutdownWish() {
  ServerList &list = server_list();
  std::lock_guard lock(list.mutex);
  list.wishes.push_back(this);
}

ShutdownWish::~ShutdownWish() {
  ServerList &list = server_list();
  std::lock_guard lock(list.mutex);
  std::erase(list.wishes, this);
}

StartScope::StartScope(ShutdownWish *wish) {
  thread_state().starting = wish;
}

StartScope::~StartScope() {
  thread_state().starting = nullptr;
}

void request_shutdown_everywhere() {
  ServerList &list = server_list();
  std::lock_guard lock(list.mutex);
  for (ShutdownWish *wish : list.wishes)
    wish->express();
  for (ServerContext *server : list.servers)
    server->request_shutdown();
}

const char *InternPool::add(std::string_view text) {
  std::lock_guard lock(mutex_);
  const auto found = strings_.find(text);
  return (found != strings_.end() ? found : strings_.emplace(text).first)->c_str();
}

InternPool &process_interns() {
  static InternPool *pool = new InternPool; // plugins keep the pointers until the very end
  return *pool;
}

ContextScope::ContextScope(CallContext *context, bool may_copy) {
  ThreadState &state = thread_state();
  previous_ = state.context;
  previous_may_copy_ = std::exchange(state.may_copy, may_copy);
  previous_error_ = state.error;
  state.context = context;
  state.error = 0;
}

ContextScope::~ContextScope() {
  ThreadState &state = thread_state();
  state.context = previous_;
  state.may_copy = previous_may_copy_;
  state.error = previous_error_;
}

InstanceScope::InstanceScope(void *instance)
    : previous_(std::exchange(thread_state().instance, instance)) {}

InstanceScope::~InstanceScope() {
  thread_state().instance = previous_;
}

CallContext *current_context() {
  return thread_state().context;
}

int current_error() {
  return thread_state().error;
}

void clear_current_error() {
  thread_state().error = 0;
  thread_state().error_message.clear();
}

std::string take_error_message() {
  return std::exchange(thread_state().error_message, {});
}

void keep_error_message(std::string message) {
  if (!message.empty())
    thread_state().error_message = std::move(message);
}

uint64_t error_messages_on_this_thread() {
  return thread_state().error_messages;
}

} // namespace asyncnbd::host
