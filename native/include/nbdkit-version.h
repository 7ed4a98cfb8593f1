/* Which nbdkit plugin API these headers declare; include nbdkit-plugin.h instead of this file. */

#ifndef NBDKIT_VERSION_H
#define NBDKIT_VERSION_H

#if !defined(NBDKIT_PLUGIN_H) && !defined(NBDKIT_FILTER_H)
#error "include <nbdkit-plugin.h> or <nbdkit-filter.h>, which includes this file"
#endif

/* The newest nbdkit release whose whole plugin API is declared here. */
#define NBDKIT_VERSION_MAJOR 1
#define NBDKIT_VERSION_MINOR 32
#define NBDKIT_VERSION_MICRO 5
#define NBDKIT_VERSION_STRING "1.32.5"

/* Defined by these headers alone, so that a plugin can tell which server it is built for. */
#define ASYNCNBD_PLUGIN_API 1

#endif /* NBDKIT_VERSION_H */
