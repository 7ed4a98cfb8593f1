// A server without NBD: an export of a plugin in C, behind filters, for clients who share memory
// with it.
//
//   ring_server SOCKET [--threads=N] [--filter=NAME[,OPTION=VALUE]…]… PLUGIN [KEY=VALUE]…
//
// Options of filters have the names and units that they have in native/filters. It says "ready"
// once it listens, and ends by SIGTERM, when all of its clients have been closed.

#include <algorithm>
#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <list>
#include <mutex>
#include <poll.h>
#include <string>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <vector>

#include "backend/operation_pool.hpp"
#include "connection.hpp"
#include "filters/registry.hpp"

using namespace asyncnbd;

namespace {

[[noreturn]] void fail(const std::string &words) {
  fprintf(stderr, "ring_server: %s\n", words.c_str());
  exit(1);
}

void need(const backend::CPlugin::Failure &failure) {
  if (failure)
    fail(failure->words);
}

// The process's, and never destroyed: threads that have idled end later than main.
struct Process {
  schedule::Runtime &runtime = schedule::Runtime::make_for_system();
  transport::PagePipes page_pipes;
  backend::OperationSlabs operations;
  const backend::Resources resources{runtime.clock, runtime.timers, runtime.threads, page_pipes,
                                     operations};
};

Process &process() {
  static Process &made = *new Process;
  return made;
}

struct Arguments {
  std::string socket;
  std::string plugin;
  unsigned threads = 16;
  std::vector<std::string> filters; // clients meet the first
  std::vector<std::pair<std::string, std::string>> parameters;
};

std::pair<std::string, std::string> at_equals(const std::string &word) {
  const size_t at = word.find('=');
  return at == std::string::npos ? std::pair(word, std::string())
                                 : std::pair(word.substr(0, at), word.substr(at + 1));
}

Arguments parse(int argc, char **argv) {
  Arguments arguments;
  if (argc < 3)
    fail("expected a socket and a plugin");
  arguments.socket = argv[1];
  for (int i = 2; i < argc; i++) {
    const auto [key, value] = at_equals(argv[i]);
    if (!arguments.plugin.empty())
      arguments.parameters.emplace_back(key, value);
    else if (key == "--threads")
      arguments.threads = static_cast<unsigned>(atoi(value.c_str()));
    else if (key == "--filter")
      arguments.filters.push_back(value);
    else
      arguments.plugin = argv[i];
  }
  return arguments;
}

// ---- what is served --------------------------------------------------------------------------

filters::FilterOption option_of(const std::string &value) {
  char *end;
  const double number = strtod(value.c_str(), &end);
  if (!value.empty() && *end == '\0')
    return number;
  return value == "true" || value == "false" ? filters::FilterOption(value == "true")
                                             : filters::FilterOption(value);
}

backend::ChainFilter filter_of(const std::string &words) {
  std::string name = words.substr(0, words.find(','));
  filters::FilterOptions options;
  for (size_t at = name.size(); at < words.size();) {
    const size_t next = std::min(words.find(',', at + 1), words.size());
    const auto [key, value] = at_equals(words.substr(at + 1, next - at - 1));
    options[key] = option_of(value);
    at = next;
  }
  std::string error;
  backend::ChainFilter made;
  made.filter = filters::make_filter(name, options, process().resources, &error);
  if (made.filter == nullptr)
    fail(error);
  return made;
}

std::shared_ptr<backend::CPlugin> load(const Arguments &arguments) {
  auto plugin = std::make_shared<backend::CPlugin>(arguments.plugin, process().resources);
  need(plugin->open());
  plugin->load();
  for (const auto &[key, value] : arguments.parameters)
    need(plugin->config(key, value));
  need(plugin->config_complete());
  need(plugin->settle_thread_model());
  return plugin;
}

std::shared_ptr<backend::Chain> chain_of(const Arguments &arguments) {
  std::vector<backend::ChainFilter> filters;
  for (const std::string &words : arguments.filters)
    filters.push_back(filter_of(words));
  return std::make_shared<backend::Chain>(std::move(filters));
}

// ---- who is served ---------------------------------------------------------------------------

// The clients that there are.
class Clients {
public:
  explicit Clients(const ring::Served &served) : served_(served) {}

  void accept(int socket) {
    std::unique_lock lock(mutex_);
    // Where a plugin stands one client at a time, others are sent away.
    if (served_.plugin->thread_model() == backend::ThreadModel::serialize_connections &&
        !connections_.empty()) {
      close(socket);
      return;
    }
    auto connection = std::make_shared<ring::Connection>(served_, socket, ++number_);
    const auto place = connections_.insert(connections_.end(), connection);
    lock.unlock();
    const bool is_running = process().runtime.threads.run([this, connection, place]() mutable {
      connection->serve([this, place] { remove(place); });
      connection.reset();
      process().runtime.idle_poller.offer_thread();
    });
    if (!is_running)
      remove(place);
  }

  void stop() {
    std::unique_lock lock(mutex_);
    for (const auto &connection : connections_)
      connection->stop();
    changed_.wait(lock, [this] { return connections_.empty(); });
  }

private:
  using List = std::list<std::shared_ptr<ring::Connection>>;

  void remove(List::iterator place) {
    std::lock_guard lock(mutex_);
    connections_.erase(place);
    changed_.notify_all();
  }

  const ring::Served &served_;
  std::mutex mutex_; // guards the rest
  std::condition_variable changed_;
  List connections_;
  uint64_t number_ = 0;
};

int listen_at(const std::string &path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
  const int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (bind(listener, reinterpret_cast<sockaddr *>(&address), sizeof address) == -1 ||
      listen(listener, SOMAXCONN) == -1)
    fail("cannot listen at " + path + ": " + strerror(errno));
  return listener;
}

void serve(int listener, int signals, Clients &clients) {
  pollfd polled[] = {{listener, POLLIN, 0}, {signals, POLLIN, 0}};
  while (poll(polled, 2, -1) == -1 || polled[1].revents == 0) {
    if ((polled[0].revents & POLLIN) == 0)
      continue;
    const int socket = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (socket != -1)
      clients.accept(socket);
  }
}

} // namespace

int main(int argc, char **argv) {
  const Arguments arguments = parse(argc, argv);
  sigset_t stop;
  sigemptyset(&stop);
  sigaddset(&stop, SIGTERM);
  sigprocmask(SIG_BLOCK, &stop, nullptr); // before there are threads
  const int signals = signalfd(-1, &stop, SFD_CLOEXEC);

  const std::shared_ptr<backend::CPlugin> plugin = load(arguments);
  const std::shared_ptr<backend::Chain> chain = chain_of(arguments);
  need(plugin->get_ready());
  chain->get_ready(static_cast<int>(plugin->thread_model()));
  need(plugin->after_fork());

  const int listener = listen_at(arguments.socket);
  auto server = std::make_shared<host::ServerContext>([] { kill(getpid(), SIGTERM); });
  // Never destroyed, as threads may be on their way out of a connection that has closed.
  static const auto &served = *new ring::Served{
      process().runtime, process().resources, server, plugin, chain, arguments.threads};
  static auto &clients = *new Clients(served);
  puts("ready");
  fflush(stdout);
  serve(listener, signals, clients);

  server->announce_stop();
  close(listener);
  clients.stop();
  chain->end();
  plugin->cleanup();
  plugin->unload();
  return 0;
}
