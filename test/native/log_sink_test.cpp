// Lines of the log go where they are to go, one write each.
#include <doctest/doctest.h>

#include <array>
#include <cerrno>
#include <fcntl.h>
#include <fstream>
#include <set>
#include <sstream>
#include <thread>
#include <unistd.h>
#include <vector>

#include "base/error_numbers.hpp"
#include "base/log_sink.hpp"

using namespace asyncnbd::base;

namespace {

struct File {
  std::string path = "/tmp/log_sink_test." + std::to_string(getpid());
  ~File() { unlink(path.c_str()); }
  std::string text() const {
    std::ostringstream text;
    text << std::ifstream(path).rdbuf();
    return text.str();
  }
};

// Standard error is this file meanwhile.
struct StderrTo {
  explicit StderrTo(const std::string &path) : kept(dup(STDERR_FILENO)) {
    const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    dup2(fd, STDERR_FILENO);
    close(fd);
  }
  ~StderrTo() {
    dup2(kept, STDERR_FILENO);
    close(kept);
  }
  int kept;
};

} // namespace

TEST_CASE("a line has the program, its source and its severity") {
  const File file;
  LogWriter writer;
  REQUIRE(writer.open_file(file.path) == 0);
  writer.configure("test", LogSink::file);
  writer.write(LogLevel::error, "memory[3]: ", "no such thing");
  writer.write(LogLevel::warning, "", "odd");
  writer.write(LogLevel::info, "", "good");
  CHECK(file.text() == "test: memory[3]: error: no such thing\n"
                       "test: warning: odd\n"
                       "test: info: good\n");
  CHECK(writer.open_file("/nonexistent/log") == ENOENT);
}

TEST_CASE("debug lines always go to standard error") {
  const File file;
  LogWriter writer;
  for (const LogSink sink : {LogSink::none, LogSink::file, LogSink::syslog}) {
    writer.configure("test", sink);
    const StderrTo redirected(file.path);
    writer.write(LogLevel::debug, "", "detail");
  }
  writer.configure("test", LogSink::none);
  {
    const StderrTo redirected(file.path);
    writer.write(LogLevel::error, "", "unheard");
  }
  CHECK(file.text() == "test: debug: detail\ntest: debug: detail\ntest: debug: detail\n");
}

TEST_CASE("a kept standard error is written to until the log is configured again") {
  const File file;
  const File later;
  LogWriter writer;
  {
    const StderrTo first(file.path);
    writer.keep_stderr();
    const StderrTo second(later.path + ".later");
    writer.write(LogLevel::error, "", "kept");
    writer.configure("test", LogSink::standard_error);
    writer.write(LogLevel::error, "", "moved");
  }
  unlink((later.path + ".later").c_str());
  CHECK(file.text() == "asyncnbd: error: kept\n");
}

TEST_CASE("lines of several threads do not mix") {
  constexpr int THREADS = 4;
  constexpr int LINES = 500;
  const File file;
  LogWriter writer;
  REQUIRE(writer.open_file(file.path) == 0);
  writer.configure("test", LogSink::file);
  std::vector<std::thread> threads;
  for (int t = 0; t < THREADS; t++)
    threads.emplace_back([&writer, t] {
      for (int i = 0; i < LINES; i++)
        writer.write(LogLevel::info, "", std::to_string(t) + "." + std::to_string(i));
    });
  for (std::thread &thread : threads)
    thread.join();
  std::istringstream text(file.text());
  std::set<std::string> lines;
  for (std::string line; std::getline(text, line);)
    lines.insert(line);
  CHECK(lines.size() == THREADS * LINES);
  for (int t = 0; t < THREADS; t++)
    for (int i = 0; i < LINES; i++)
      CHECK(lines.count("test: info: " + std::to_string(t) + "." + std::to_string(i)) == 1);
}

TEST_CASE("errors have a name and a text, whatever their number") {
  CHECK(error_name(EIO) == "EIO");
  CHECK(error_text(ENOSPC) == "No space left on device");
  CHECK(error_name(4711) == "error 4711");
  CHECK(error_text(4711) == "Unknown error 4711");
}
