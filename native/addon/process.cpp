// See process.hpp.
#include "addon/process.hpp"

#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <string_view>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>
#include <vector>

#include "addon/own_process.hpp"
#include "base/error_numbers.hpp"
#include "host/client_log.hpp"
#include "host/library.hpp"
#include "host/log.hpp"
#include "host/stdio.hpp"

namespace asyncnbd::addon {

namespace {

void throw_errno(Napi::Env env, const char *what) {
  Napi::Error::New(env, std::string(what) + ": " + base::error_text(errno))
      .ThrowAsJavaScriptException();
}

// configureLog(program, verbose, sink): sink is 0 for stderr, 1 for syslog, 2 for nothing.
void configure_log(const Napi::CallbackInfo &info) {
  host::log_configure(info[0].As<Napi::String>(), info[1].As<Napi::Boolean>(),
                      static_cast<host::LogSink>(info[2].As<Napi::Number>().Int32Value()));
}

// chooseDebugPaths(control, data): see log_choose_paths.
void choose_debug_paths(const Napi::CallbackInfo &info) {
  host::log_choose_paths(info[0].As<Napi::Boolean>(), info[1].As<Napi::Boolean>());
}

// openLog(path): returns an error message, or undefined.
Napi::Value open_log(const Napi::CallbackInfo &info) {
  const int error = host::log_open_file(info[0].As<Napi::String>());
  return error == 0 ? info.Env().Undefined()
                    : Napi::Value(Napi::String::New(info.Env(), base::error_text(error)));
}

void log_clients(const Napi::CallbackInfo &info) {
  host::set_log_clients(info[0].As<Napi::Boolean>());
}

void log_error(const Napi::CallbackInfo &info) {
  host::log_error_text(info[0].As<Napi::String>());
}

void log_warning(const Napi::CallbackInfo &info) {
  host::log_warning_text(info[0].As<Napi::String>());
}

void log_debug(const Napi::CallbackInfo &info) {
  host::log_debug_text(info[0].As<Napi::String>());
}

// Points a standard descriptor at /dev/null.
bool silence(int fd) {
  int null = open("/dev/null", fd == STDIN_FILENO ? O_RDONLY : O_WRONLY);
  if (null == -1)
    return false;
  bool done = dup2(null, fd) != -1;
  if (null != fd)
    close(null);
  return done;
}

// print(text): prints through C's stdio, like C plugins, so that lines keep their order. Node's own
// stdout would make the stream nonblocking, for all programs that share it.
void print(const Napi::CallbackInfo &info) {
  const std::string text = info[0].As<Napi::String>();
  fwrite(text.data(), 1, text.size(), stdout);
  fflush(stdout);
}

// copyStdio(): copies of stdin and stdout as [in, out], for a client or a command.
Napi::Value copy_stdio(const Napi::CallbackInfo &info) {
  Napi::Env env = info.Env();
  fflush(stdin); // gives back what plugins have buffered of a file but not read
  int in = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
  int out = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
  if (in == -1 || out == -1) {
    throw_errno(env, "cannot copy standard input and output");
    return env.Undefined();
  }
  Napi::Array fds = Napi::Array::New(env, 2);
  fds.Set(0u, in);
  fds.Set(1u, out);
  return fds;
}

// silenceStdio(): replaces stdin and stdout by /dev/null.
void silence_stdio(const Napi::CallbackInfo &info) {
  fflush(nullptr); // C plugins may have printed
  if (!silence(STDIN_FILENO) || !silence(STDOUT_FILENO))
    throw_errno(info.Env(), "cannot redirect standard input and output to /dev/null");
}

// silenceStderr(): for everything but the log, which keeps the stream until it is configured again.
void silence_stderr(const Napi::CallbackInfo &info) {
  host::log_keep_stderr();
  if (!silence(STDERR_FILENO))
    throw_errno(info.Env(), "cannot redirect standard error to /dev/null");
}

void set_stdio_safe(const Napi::CallbackInfo &info) {
  host::set_stdio_safe(info[0].As<Napi::Boolean>());
}

void become_session_leader(const Napi::CallbackInfo &) {
  setsid(); // fails only if this process leads a group already
}

// exitWithParent(parent): this process is terminated as soon as its parent, that process, ends.
void exit_with_parent(const Napi::CallbackInfo &info) {
  if (prctl(PR_SET_PDEATHSIG, SIGTERM) == -1) {
    throw_errno(info.Env(), "cannot arrange to end with the parent process");
    return;
  }
  // The parent may have ended before we asked.
  if (getppid() != info[0].As<Napi::Number>().Int32Value())
    raise(SIGTERM);
}

// peerOf(fd): { kind, … }, see PeerAddress of src/addon/types.ts.
Napi::Value peer_of(const Napi::CallbackInfo &info) {
  const host::PeerAddress peer = host::peer_address(info[0].As<Napi::Number>());
  const std::string_view kind = peer.kind;
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("kind", peer.kind);
  if (kind == "tcp")
    result.Set("address", peer.address);
  if (kind == "vsock")
    result.Set("contextId", peer.context_id);
  if (kind == "tcp" || kind == "vsock")
    result.Set("port", peer.port);
  if (kind == "unix") {
    result.Set("processId", static_cast<double>(peer.process_id));
    result.Set("userId", static_cast<double>(peer.user_id));
  }
  return result;
}

// socketPair(): two descriptors.
Napi::Value socket_pair(const Napi::CallbackInfo &info) {
  Napi::Env env = info.Env();
  int fds[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == -1) {
    throw_errno(env, "cannot make a pair of sockets");
    return env.Undefined();
  }
  Napi::Array pair = Napi::Array::New(env, 2);
  pair.Set(0u, fds[0]);
  pair.Set(1u, fds[1]);
  return pair;
}

// Sends a datagram to a unix socket, whose name is abstract if it begins with "@". Returns 0, or an
// errno.
int send_datagram(const std::string &name, const std::string &text) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (name.empty() || (name[0] != '/' && name[0] != '@'))
    return EAFNOSUPPORT;
  if (name.size() >= sizeof address.sun_path)
    return ENAMETOOLONG;
  memcpy(address.sun_path, name.data(), name.size());
  if (name[0] == '@')
    address.sun_path[0] = '\0';
  const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd == -1)
    return errno;
  // Waits for a receiver that is busy for a moment, but one that hangs must not hang the server.
  const timeval patience = {.tv_sec = 1, .tv_usec = 0};
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  const socklen_t length = offsetof(sockaddr_un, sun_path) + name.size();
  const auto sent = sendto(fd, text.data(), text.size(), MSG_NOSIGNAL,
                           reinterpret_cast<const sockaddr *>(&address), length);
  const int error = sent == -1 ? errno : 0;
  close(fd);
  return error;
}

// notifyManager(socket, text): returns an error message, or undefined.
Napi::Value notify_manager(const Napi::CallbackInfo &info) {
  const int error = send_datagram(info[0].As<Napi::String>(), info[1].As<Napi::String>());
  return error == 0 ? info.Env().Undefined()
                    : Napi::Value(Napi::String::New(info.Env(), base::error_text(error)));
}

void keep_libraries(const Napi::CallbackInfo &) {
  host::keep_libraries();
}

// execute(path, argv): does not return if it succeeds. Undoes Node's changes to the process.
Napi::Value execute(const Napi::CallbackInfo &info) {
  std::string path = info[0].As<Napi::String>();
  Napi::Array list = info[1].As<Napi::Array>();
  std::vector<std::string> words;
  for (uint32_t i = 0; i < list.Length(); i++)
    words.push_back(list.Get(i).As<Napi::String>());
  std::vector<char *> argv;
  for (std::string &word : words)
    argv.push_back(word.data());
  argv.push_back(nullptr);
  share_with_children();
  execv(path.c_str(), argv.data());
  return Napi::String::New(info.Env(), base::error_text(errno));
}

// tryLock(fd): an exclusive lock on an open file, or false if somebody else has one.
Napi::Value try_lock(const Napi::CallbackInfo &info) {
  bool locked = flock(info[0].As<Napi::Number>(), LOCK_EX | LOCK_NB) == 0;
  return Napi::Boolean::New(info.Env(), locked);
}

} // namespace

void define_process_functions(Napi::Env env, Napi::Object exports) {
  exports.Set("configureLog", Napi::Function::New(env, configure_log));
  exports.Set("chooseDebugPaths", Napi::Function::New(env, choose_debug_paths));
  exports.Set("openLog", Napi::Function::New(env, open_log));
  exports.Set("logError", Napi::Function::New(env, log_error));
  exports.Set("logWarning", Napi::Function::New(env, log_warning));
  exports.Set("logDebug", Napi::Function::New(env, log_debug));
  exports.Set("logClients", Napi::Function::New(env, log_clients));
  exports.Set("print", Napi::Function::New(env, print));
  exports.Set("copyStdio", Napi::Function::New(env, copy_stdio));
  exports.Set("silenceStdio", Napi::Function::New(env, silence_stdio));
  exports.Set("silenceStderr", Napi::Function::New(env, silence_stderr));
  exports.Set("setStdioSafe", Napi::Function::New(env, set_stdio_safe));
  exports.Set("becomeSessionLeader", Napi::Function::New(env, become_session_leader));
  exports.Set("exitWithParent", Napi::Function::New(env, exit_with_parent));
  exports.Set("peerOf", Napi::Function::New(env, peer_of));
  exports.Set("socketPair", Napi::Function::New(env, socket_pair));
  exports.Set("notifyManager", Napi::Function::New(env, notify_manager));
  exports.Set("keepLibraries", Napi::Function::New(env, keep_libraries));
  exports.Set("execute", Napi::Function::New(env, execute));
  exports.Set("tryLock", Napi::Function::New(env, try_lock));
}

} // namespace asyncnbd::addon
