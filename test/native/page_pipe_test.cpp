// Pages of files and of memory on their way to a socket, and back from one to a file: all of them,
// and no pipe left behind.
#include <doctest/doctest.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <filesystem>
#include <sys/mman.h>
#include <sys/socket.h>
#include <thread>

#include "support.hpp"
#include "transport/page_pipe.hpp"

using asyncnbd::transport::PagePipe;
using asyncnbd::transport::PagePipes;

namespace {

constexpr size_t FILE_BYTES = (5 << 20) + 123;

std::vector<uint8_t> content(uint64_t offset, size_t length_bytes) {
  std::vector<uint8_t> bytes(length_bytes);
  for (size_t i = 0; i < length_bytes; i++)
    bytes[i] = static_cast<uint8_t>((offset + i) * 7 + ((offset + i) >> 12));
  return bytes;
}

struct File {
  const int fd = memfd_create("page_pipe_test", MFD_CLOEXEC);
  File() {
    const auto bytes = content(0, FILE_BYTES);
    REQUIRE(write(fd, bytes.data(), bytes.size()) == FILE_BYTES);
  }
  ~File() { close(fd); }
};

size_t open_descriptors() {
  std::filesystem::directory_iterator all("/proc/self/fd");
  return static_cast<size_t>(std::distance(begin(all), end(all)));
}

} // namespace

TEST_CASE("any part of a file arrives whole, through as many pipes as that takes") {
  PagePipes pipes;
  File file;
  SocketPair sockets;
  const std::pair<uint64_t, size_t> parts[] = {{0, 1},       {4095, 2},      {1, 1 << 20},
                                               {0, 1 << 20}, {777, 4 << 20}, {0, FILE_BYTES}};
  for (const auto &[offset, length_bytes] : parts) {
    PagePipe::Owner pipe = pipes.take(PagePipe::For::sending);
    REQUIRE(pipe);
    REQUIRE(pipe->put_file(file.fd, offset, length_bytes) == 0);
    std::thread sender([&] { CHECK(pipe->send(sockets.server, false) == ssize_t(length_bytes)); });
    std::vector<uint8_t> received(length_bytes);
    CHECK(read_all(sockets.client, received.data(), length_bytes));
    sender.join();
    CHECK(pipe->is_empty());
    CHECK(received == content(offset, length_bytes));
  }
  close(sockets.server);
}

TEST_CASE("data in pipes can be read out instead, even after a failed send") {
  PagePipes pipes;
  File file;
  PagePipe::Owner pipe = pipes.take(PagePipe::For::sending);
  REQUIRE(pipe);
  REQUIRE(pipe->put_file(file.fd, 5, 3 << 20) == 0);
  CHECK(pipe->send(file.fd + 1000, false) == -EBADF);
  std::vector<uint8_t> taken(3 << 20);
  CHECK(pipe->take_out(taken.data()) == taken.size());
  CHECK(taken == content(5, taken.size()));
  CHECK(pipe->is_empty());
}

TEST_CASE("a peer that has gone raises no SIGPIPE") {
  PagePipes pipes;
  const auto before = signal(SIGPIPE, SIG_DFL);
  File file;
  for (const size_t length_bytes : {size_t{4096}, FILE_BYTES}) {
    SocketPair sockets;
    PagePipe::Owner pipe = pipes.take(PagePipe::For::sending);
    REQUIRE(pipe);
    REQUIRE(pipe->put_file(file.fd, 0, length_bytes) == 0);
    shutdown(sockets.client, SHUT_RD);
    CHECK(pipe->send(sockets.server, false) == -EPIPE);
    close(sockets.server);
  }
  sigset_t signals;
  sigpending(&signals);
  CHECK(sigismember(&signals, SIGPIPE) == 0);
  pthread_sigmask(SIG_BLOCK, nullptr, &signals);
  CHECK(sigismember(&signals, SIGPIPE) == 0);
  signal(SIGPIPE, before);
}

TEST_CASE("a range that the file does not have is an error, and nothing of it is sent") {
  PagePipes pipes;
  File file;
  for (uint64_t offset : {uint64_t(FILE_BYTES - 5000), uint64_t(FILE_BYTES + 5000)}) {
    PagePipe::Owner pipe = pipes.take(PagePipe::For::sending);
    REQUIRE(pipe);
    CHECK(pipe->put_file(file.fd, offset, 10000) == -ENODATA);
    pipe = pipes.take(PagePipe::For::sending);
    REQUIRE(pipe);
    CHECK(pipe->is_empty());
  }
}

TEST_CASE("the number of pipes is limited, and kept ones can be closed") {
  PagePipes pipes;
  File file;
  pipes.close_kept();
  const size_t before = open_descriptors();
  {
    std::vector<PagePipe::Owner> taken;
    while (PagePipe::Owner pipe = pipes.take(PagePipe::For::sending))
      taken.push_back(std::move(pipe));
    CHECK(taken.size() > 10);
    CHECK(taken.size() < 1000);
    CHECK(taken.front()->put_file(file.fd, 0, 3 << 20) == -ENOBUFS); // in one alone
    taken.resize(taken.size() - 1);
    CHECK(pipes.take(PagePipe::For::sending));
  }
  {
    std::vector<PagePipe::Owner> taken;
    while (PagePipe::Owner pipe = pipes.take(PagePipe::For::receiving))
      taken.push_back(std::move(pipe));
    CHECK(pipes.take(PagePipe::For::sending)); // clients that send slowly do not get them all
    taken.pop_back();
    CHECK(pipes.take(PagePipe::For::receiving));
  }
  CHECK(open_descriptors() > before);
  pipes.close_kept();
  CHECK(open_descriptors() == before);
}

TEST_CASE("data from a socket is written to its place in a file") {
  PagePipes pipes;
  File file;
  SocketPair sockets;
  PagePipe::Owner pipe = pipes.take(PagePipe::For::receiving);
  REQUIRE(pipe);
  CHECK(pipe->put_arrived(sockets.server, 4096) == -EAGAIN);
  const auto sent = content(99, 200000);
  std::thread client([&] { send_all(sockets.client, sent); });
  for (size_t arrived = 0; arrived < sent.size();) {
    const ssize_t put = pipe->put_arrived(sockets.server, sent.size() - arrived);
    REQUIRE((put > 0 || put == -EAGAIN));
    arrived += put > 0 ? static_cast<size_t>(put) : 0;
  }
  client.join();
  CHECK(pipe->write_file(file.fd, 4097) == sent.size());
  CHECK(pipe->is_empty());
  auto expected = content(0, FILE_BYTES);
  std::copy(sent.begin(), sent.end(), expected.begin() + 4097);
  std::vector<uint8_t> written(FILE_BYTES);
  CHECK(pread(file.fd, written.data(), written.size(), 0) == FILE_BYTES);
  CHECK(written == expected);
  sockets.close_client();
  CHECK(pipe->put_arrived(sockets.server, 4096) == -ENOBUFS); // a receive will say why
  close(sockets.server);
}

TEST_CASE("a pipe full of small pieces reports it, and loses nothing") {
  PagePipes pipes;
  SocketPair sockets;
  PagePipe::Owner pipe = pipes.take(PagePipe::For::receiving);
  REQUIRE(pipe);
  const auto sent = content(0, 200000);
  std::thread client([&] {
    for (size_t at = 0; at < sent.size(); at += 100)
      send_all(sockets.client, sent.data() + at, 100);
  });
  size_t arrived = 0;
  ssize_t put;
  while ((put = pipe->put_arrived(sockets.server, sent.size() - arrived)) != -ENOBUFS) {
    REQUIRE((put > 0 || put == -EAGAIN));
    arrived += put > 0 ? static_cast<size_t>(put) : 0;
    REQUIRE(arrived < sent.size());
  }
  std::vector<uint8_t> received(sent.size());
  CHECK(pipe->take_out(received.data()) == arrived);
  CHECK(read_all(sockets.server, received.data() + arrived, sent.size() - arrived));
  client.join();
  CHECK(received == sent);
  close(sockets.server);
}

TEST_CASE("data that a file does not take stays in the pipe") {
  PagePipes pipes;
  constexpr size_t TAKEN = 8192;
  const int file = memfd_create("page_pipe_test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  REQUIRE(ftruncate(file, TAKEN) == 0);
  REQUIRE(fcntl(file, F_ADD_SEALS, F_SEAL_GROW) == 0);
  SocketPair sockets;
  PagePipe::Owner pipe = pipes.take(PagePipe::For::receiving);
  REQUIRE(pipe);
  const auto sent = content(0, 3 * TAKEN);
  REQUIRE(send_all(sockets.client, sent));
  REQUIRE(pipe->put_arrived(sockets.server, sent.size()) == ssize_t(sent.size()));
  CHECK(pipe->write_file(file, 0) == TAKEN);
  std::vector<uint8_t> rest(2 * TAKEN);
  CHECK(pipe->take_out(rest.data()) == rest.size());
  CHECK(std::equal(rest.begin(), rest.end(), sent.begin() + TAKEN));
  close(file);
  close(sockets.server);
}

TEST_CASE("memory is sent as well, one full pipe at a time") {
  PagePipes pipes;
  const auto memory = content(0, 3 << 20);
  SocketPair sockets;
  PagePipe::Owner pipe = pipes.take(PagePipe::For::sending);
  REQUIRE(pipe);
  std::thread sender([&] {
    for (size_t sent = 0; sent < memory.size();) {
      const ssize_t put = pipe->put_memory(memory.data() + sent, memory.size() - sent);
      REQUIRE(put > 0);
      CHECK(pipe->send(sockets.server, false) == put);
      sent += static_cast<size_t>(put);
    }
  });
  std::vector<uint8_t> received(memory.size());
  CHECK(read_all(sockets.client, received.data(), received.size()));
  sender.join();
  CHECK(received == memory);
  close(sockets.server);
}
