// A server without NBD: an export of a plugin in C, behind filters, for clients who share memory
// with it.
//
//   ring_server SOCKET [--threads=N] [--filter=NAME[,OPTION=VALUE]…|--filter=PATH]… PLUGIN
//   [KEY=VALUE]…
//
// Options of our filters have the names and units that they have in native/filters; nbdkit's, which
// are named by their paths, see the parameters first. It says "ready"
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
#include "cplugin/filter_place.hpp"
#include "filters/registry.hpp"

using namespace asyncnbd;

namespace {

// Of all that a test does with it: one whose test has been killed ends all the same.
constexpr unsigned DEADLINE_SECONDS = 600;

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

// A plugin, and nbdkit's filters in front of it, which share its life. Clients meet the first.
struct Living {
  std::shared_ptr<backend::CPlugin> plugin;
  std::vector<std::shared_ptr<cplugin::CFilter>> filters;

  // Of the filter that stands there, or the plugin.
  bool config(size_t at, const char *key, const char *value) {
    if (at == filters.size())
      need(plugin->config(key, value));
    else
      need(filters[at]->config(
          key, value, [=, this](const char *k, const char *v) { return config(at + 1, k, v); }));
    return true;
  }
  bool config_complete(size_t at) {
    if (at == filters.size())
      need(plugin->config_complete());
    else
      need(filters[at]->config_complete([=, this] { return config_complete(at + 1); }));
    return true;
  }
  // The least of all there are.
  int settle_thread_model() {
    need(plugin->settle_thread_model());
    int least = static_cast<int>(plugin->thread_model());
    for (size_t i = filters.size(); i > 0; i--) {
      need(filters[i - 1]->settle_thread_model(least));
      least = std::min(least, static_cast<int>(filters[i - 1]->thread_model()));
    }
    return least;
  }
  void start(int thread_model, backend::Chain &chain) {
    need(plugin->get_ready());
    for (size_t i = filters.size(); i > 0; i--)
      need(filters[i - 1]->get_ready(thread_model));
    chain.get_ready(thread_model);
    need(plugin->after_fork());
    for (size_t i = filters.size(); i > 0; i--)
      need(filters[i - 1]->after_fork());
  }
  void end() {
    for (const auto &filter : filters)
      filter->cleanup();
    plugin->cleanup();
    for (const auto &filter : filters)
      filter->unload();
    plugin->unload();
  }
};

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

std::shared_ptr<backend::Chain> load(const Arguments &arguments, Living *living) {
  living->plugin = std::make_shared<backend::CPlugin>(arguments.plugin, process().resources);
  need(living->plugin->open());
  living->plugin->load();
  std::vector<backend::ChainFilter> chain;
  for (const std::string &words : arguments.filters) {
    if (words[0] != '/') {
      chain.push_back(filter_of(words));
      continue;
    }
    const auto &filter = living->filters.emplace_back(std::make_shared<cplugin::CFilter>(words));
    need(filter->open());
    filter->load();
    chain.push_back({nullptr, cplugin::make_filter_place(filter)});
  }
  for (const auto &[key, value] : arguments.parameters)
    living->config(0, key.c_str(), value.c_str());
  living->config_complete(0);
  return std::make_shared<backend::Chain>(std::move(chain));
}

// ---- who is served ---------------------------------------------------------------------------

// The clients that there are.
class Clients {
public:
  explicit Clients(const ring::Served &served) : served_(served) {}

  void accept(int socket) {
    std::unique_lock lock(mutex_);
    auto connection = std::make_shared<ring::Connection>(served_, socket, ++number_);
    if (!connections_.empty() && connection->is_for_one_client())
      return; // others are sent away
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
  alarm(DEADLINE_SECONDS);
  const Arguments arguments = parse(argc, argv);
  sigset_t stop;
  sigemptyset(&stop);
  sigaddset(&stop, SIGTERM);
  sigprocmask(SIG_BLOCK, &stop, nullptr); // before there are threads
  const int signals = signalfd(-1, &stop, SFD_CLOEXEC);

  Living living;
  const std::shared_ptr<backend::Chain> chain = load(arguments, &living);
  living.start(living.settle_thread_model(), *chain);

  const int listener = listen_at(arguments.socket);
  auto server = std::make_shared<host::ServerContext>([] { kill(getpid(), SIGTERM); });
  // Never destroyed, as threads may be on their way out of a connection that has closed.
  static const auto &served = *new ring::Served{
      process().runtime, process().resources, server, living.plugin, chain, arguments.threads};
  static auto &clients = *new Clients(served);
  puts("ready");
  fflush(stdout);
  serve(listener, signals, clients);

  server->announce_stop();
  close(listener);
  clients.stop();
  chain->end();
  living.end();
  return 0;
}
