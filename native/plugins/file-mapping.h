/* Reads cached parts of a file without a system call, through a mapping. */
#ifndef FILE_MAPPING_H
#define FILE_MAPPING_H

#include <stdbool.h>
#include <stdint.h>

struct file_mapping;

/* The file's mapping, shared by all who have it open; give it back with release. NULL: none, for
 * example on a network file system, which may have newer data than the mapping. */
struct file_mapping *file_mapping_get(int fd, int advice);
void file_mapping_release(struct file_mapping *mapping);

/* False: nothing was read, use pread. May block, like pread. `fd` has the file open; its position
 * may be changed. Any thread. */
bool file_mapping_read(const struct file_mapping *mapping, int fd, void *to, uint32_t count,
                       uint64_t offset);

/* Call it after pread has read this range: it is probably in the page cache now. */
void file_mapping_note_read(struct file_mapping *mapping, uint32_t count, uint64_t offset);

/* Call it before a hole is made: reading it through the mapping could give it memory again. */
void file_mapping_note_hole(struct file_mapping *mapping, uint32_t count, uint64_t offset);

/* Call them when an instance of the plugin is loaded and unloaded. */
void file_mapping_load(void);
void file_mapping_unload(void);

#endif
