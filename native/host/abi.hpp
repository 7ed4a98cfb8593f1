// The functions exported to C plugins and filters: those of the public headers. A distribution's
// plugins also link to some that only the filters' header declares.
#pragma once

#define NBDKIT_API_VERSION 2
#include "include/nbdkit-plugin.h"

#include "include/nbdkit-filter.h"
