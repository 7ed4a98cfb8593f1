// doctest itself, compiled once for all the test programs.
// Both, for the precompiled headers have had doctest already, which would make one of the other.
#define DOCTEST_CONFIG_IMPLEMENT
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>
