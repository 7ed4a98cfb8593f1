// See emergency_log.hpp. Async-signal-safe.
#include "host/emergency_log.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <fcntl.h>
#include <string_view>
#include <sys/socket.h>
#include <sys/un.h>
#include <syslog.h>
#include <unistd.h>

#include "host/log.hpp"

namespace asyncnbd::host {

namespace {

class Line {
public:
  void add(std::string_view text) {
    const size_t fitting = std::min(text.size(), text_.size() - length_);
    memcpy(text_.data() + length_, text.data(), fitting);
    length_ += fitting;
  }
  void add(unsigned number) {
    std::array<char, 12> digits;
    size_t first = digits.size();
    do {
      digits[--first] = static_cast<char>('0' + number % 10);
      number /= 10;
    } while (number > 0);
    add({digits.data() + first, digits.size() - first});
  }
  const char *data() const { return text_.data(); }
  size_t size() const { return length_; }

private:
  std::array<char, 512> text_;
  size_t length_ = 0;
};

// A pipe that nobody reads becomes full.
void write_now(int fd, const Line &line) {
  const int flags = fcntl(fd, F_GETFL);
  if (flags == -1 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) == -1)
    return;
  (void)!write(fd, line.data(), line.size());
  fcntl(fd, F_SETFL, flags); // other processes may share it
}

// Like syslog(3), whose lock may be held.
void send_now(const Line &line) {
  const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd == -1)
    return;
  const sockaddr_un address{AF_UNIX, "/dev/log"};
  sendto(fd, line.data(), line.size(), MSG_DONTWAIT | MSG_NOSIGNAL,
         reinterpret_cast<const sockaddr *>(&address), sizeof address);
  close(fd);
}

} // namespace

void log_emergency(const char *text) {
  Line line;
  switch (log_sink()) {
  case LogSink::standard_error:
  case LogSink::file:
    line.add("asyncnbd: error: ");
    line.add(text);
    line.add("\n");
    write_now(log_sink() == LogSink::file ? log_file() : STDERR_FILENO, line);
    break;
  case LogSink::syslog:
    line.add("<");
    line.add(LOG_DAEMON | LOG_ERR);
    line.add(">asyncnbd[");
    line.add(static_cast<unsigned>(getpid()));
    line.add("]: ");
    line.add(text);
    send_now(line);
    break;
  case LogSink::none:
    break;
  }
}

} // namespace asyncnbd::host
