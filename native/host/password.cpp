// nbdkit_read_password and nbdkit_stdio_safe.
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <termios.h>
#include <unistd.h>

#include "host/abi.hpp"
#include "host/stdio.hpp"

namespace {

std::atomic<bool> stdio_safe{true}; // a setting, pairs with nothing

// Reads one line without its newline; an empty stream counts as an empty password.
int read_line(FILE *stream, const char *source, char **password) {
  char *line = nullptr;
  size_t capacity = 0;
  ssize_t length = getline(&line, &capacity, stream);
  if (length == -1) {
    free(line);
    if (ferror(stream)) {
      nbdkit_error("cannot read the password from %s: %m", source);
      return -1;
    }
    *password = strdup("");
    return *password != nullptr ? 0 : -1;
  }
  if (length > 0 && line[length - 1] == '\n')
    line[length - 1] = '\0';
  *password = line;
  return 0;
}

// Takes ownership of fd.
int read_from_fd(int fd, const char *source, char **password) {
  FILE *stream = fdopen(fd, "r");
  if (stream == nullptr) {
    nbdkit_error("cannot read the password from %s: %m", source);
    close(fd);
    return -1;
  }
  int result = read_line(stream, source, password);
  fclose(stream);
  return result;
}

int read_from_terminal(char **password) {
  if (!nbdkit_stdio_safe()) {
    nbdkit_error("cannot ask for a password: standard input is in use");
    return -1;
  }
  if (!isatty(STDIN_FILENO)) {
    nbdkit_error("cannot ask for a password: standard input is not a terminal");
    return -1;
  }
  termios shown;
  if (tcgetattr(STDIN_FILENO, &shown) == -1) {
    nbdkit_error("cannot ask for a password: %m");
    return -1;
  }
  termios hidden = shown;
  hidden.c_lflag &= ~static_cast<tcflag_t>(ECHO);

  // Before the prompt, because it drops typed input, and an answer may follow the prompt at once.
  tcsetattr(STDIN_FILENO, TCSAFLUSH, &hidden);
  fputs("password: ", stdout);
  fflush(stdout);
  int result = read_line(stdin, "the terminal", password);
  tcsetattr(STDIN_FILENO, TCSADRAIN, &shown);
  fputs("\n", stdout);
  fflush(stdout);
  return result;
}

} // namespace

void asyncnbd::host::set_stdio_safe(bool safe) {
  stdio_safe = safe;
}

extern "C" {

NBDKIT_DLL_PUBLIC int nbdkit_stdio_safe(void) {
  return stdio_safe;
}

NBDKIT_DLL_PUBLIC int nbdkit_read_password(const char *value, char **password) {
  *password = nullptr;

  if (strcmp(value, "-") == 0)
    return read_from_terminal(password);

  if (value[0] == '-') {
    int fd;
    if (nbdkit_parse_int("password file descriptor", value + 1, &fd) == -1)
      return -1;
    if (fd >= STDIN_FILENO && fd <= STDERR_FILENO) {
      nbdkit_error("a password cannot be read from file descriptor %d: "
                   "it would be closed afterwards",
                   fd);
      return -1;
    }
    return read_from_fd(fd, value + 1, password);
  }

  if (value[0] == '+') {
    int fd = open(value + 1, O_RDONLY | O_CLOEXEC);
    if (fd == -1) {
      nbdkit_error("cannot open the password file %s: %m", value + 1);
      return -1;
    }
    return read_from_fd(fd, value + 1, password);
  }

  *password = strdup(value);
  return *password != nullptr ? 0 : -1;
}

} // extern "C"
