# Builds the addon and the shipped plugins in a clone; what is published, scripts/prebuild makes of
# them, and this file is left out. The lists of sources are in native/sources.json, where a folder
# stands for what is in it, and native/CMakeLists.txt builds them too; for a new source, run
# "npx node-gyp configure", since make looks at this file alone.
{
  "variables": {
    # How to link it, "" if there is none. Statically where that can be: then the plugin runs on
    # systems that lack it, or have another version.
    "liburing%": "<!(printf '#include <liburing.h>' | ${CC:-cc} -E - >/dev/null 2>&1 && { library=$(${CC:-cc} -print-file-name=liburing.a); test -e $library && echo $library || echo -luring; } || true)"
  },
  "target_defaults": {
    # What backtraces need; all of -g takes a third of the time more.
    "cflags": ["-Wall", "-Wextra", "-O2", "-g1"],
    # It would depend on where it is built.
    "ldflags": ["-Wl,--build-id=none"],
    "include_dirs": ["native", "native/include"]
  },
  "targets": [
    {
      "target_name": "asyncnbd",
      "sources": [
        # What takes longest first: nothing else would be left for the second processor meanwhile.
        "<!@(node native/batches.mjs build/batches addon core+nbd)"
      ],
      "include_dirs": ["<!(node -p \"require('node-addon-api').include_dir\")"],
      # A worker that is being terminated cannot run what we call; that is no reason to abort.
      "defines": [
        "NAPI_VERSION=9",
        "NAPI_DISABLE_CPP_EXCEPTIONS",
        "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS",
        "_GNU_SOURCE",
      ],
      "cflags_cc!": ["-std=gnu++17"],
      "cflags_cc": ["-std=gnu++20", "-fno-exceptions"],
      "cflags": ["-fvisibility=hidden", "-pthread"],
      # Threads of ours, and what they free at their end, outlive a worker of Node's that was the only
      # one to load this.
      "ldflags": [
        "-Wl,--version-script=<(module_root_dir)/native/addon/exports.map",
        "-Wl,-z,nodelete",
        "-pthread",
      ]
    },
    {
      "target_name": "nbdkit-async-file-plugin",
      "type": "shared_library",
      "product_prefix": "",
      "product_dir": "<(PRODUCT_DIR)",
      "sources": [
        "native/plugins/async-file.c",
        "native/plugins/async-file-at-once.c",
        "native/plugins/async-file-queue.c",
        "native/plugins/async-file-requests.c",
        "native/plugins/async-file-threads.c"
      ],
      "cflags": ["-fvisibility=hidden"],
      "ldflags": ["-pthread"],
      "conditions": [
        ["liburing!=''", {
          "sources": ["native/plugins/async-file-uring.c"],
          "defines": ["HAVE_LIBURING"],
          "libraries": ["<(liburing)"],
          "ldflags": ["-Wl,--exclude-libs,ALL"]
        }]
      ]
    },
    {
      "target_name": "nbdkit-delay-memory-plugin",
      "type": "shared_library",
      "product_prefix": "",
      "product_dir": "<(PRODUCT_DIR)",
      "sources": ["native/plugins/delay-memory.c"],
      "ldflags": ["-pthread"]
    },
    {
      "target_name": "nbdkit-file-plugin",
      "type": "shared_library",
      "product_prefix": "",
      "product_dir": "<(PRODUCT_DIR)",
      "sources": [
        "native/plugins/file.c",
        "native/plugins/file-eviction.c",
        "native/plugins/file-mapping.c",
        "native/plugins/file-ranges.c",
        "native/plugins/file-source.c"
      ],
      "cflags": ["-fvisibility=hidden"]
    },
    {
      "target_name": "nbdkit-memory-plugin",
      "type": "shared_library",
      "product_prefix": "",
      "product_dir": "<(PRODUCT_DIR)",
      "sources": ["native/plugins/memory.c", "native/plugins/memory-chunks.c"],
      "cflags": ["-fvisibility=hidden"]
    },
    {
      "target_name": "nbdkit-null-plugin",
      "type": "shared_library",
      "product_prefix": "",
      "product_dir": "<(PRODUCT_DIR)",
      "sources": ["native/plugins/null.c"]
    },
    {
      # libcurl is found at run time.
      "target_name": "nbdkit-http-plugin",
      "type": "shared_library",
      "product_prefix": "",
      "product_dir": "<(PRODUCT_DIR)",
      "sources": ["<!@(node native/batches.mjs build/batches http)"],
      "cflags_cc!": ["-fno-exceptions", "-fno-rtti", "-std=gnu++17"],
      "cflags_cc": ["-std=gnu++20"],
      "cflags": ["-fvisibility=hidden", "-pthread"],
      "ldflags": ["-pthread"]
    },
    {
      # As of http, libcurl is found at run time.
      "target_name": "nbdkit-s3-plugin",
      "type": "shared_library",
      "product_prefix": "",
      "product_dir": "<(PRODUCT_DIR)",
      "sources": ["<!@(node native/batches.mjs build/batches s3)"],
      "cflags_cc!": ["-fno-exceptions", "-fno-rtti", "-std=gnu++17"],
      "cflags_cc": ["-std=gnu++20"],
      "cflags": ["-fvisibility=hidden", "-pthread"],
      "ldflags": ["-pthread"]
    },
    {
      # Ceph's libraries are found at run time.
      "target_name": "nbdkit-rbd-plugin",
      "type": "shared_library",
      "product_prefix": "",
      "product_dir": "<(PRODUCT_DIR)",
      "sources": ["<!@(node native/batches.mjs build/batches rbd)"],
      "cflags_cc!": ["-fno-exceptions", "-fno-rtti", "-std=gnu++17"],
      "cflags_cc": ["-std=gnu++20"],
      "cflags": ["-fvisibility=hidden", "-pthread"],
      # Threads that wait for a cluster may outlive a server: see rbd-waiting.hpp.
      "ldflags": ["-pthread", "-Wl,-z,nodelete"]
    }
  ]
}
