/* Reads what the page cache has of a file without a system call: by a mapping of the file. */
#ifndef FILE_MAPPING_H
#define FILE_MAPPING_H

#include <stdbool.h>
#include <stdint.h>

struct file_mapping;

/* That of the file, shared by all who have it open; give it back by release. NULL: it has none,
 * such as on a file system of another machine's, which may know more than the mapping shows. */
struct file_mapping *file_mapping_get(int fd, int advice);
void file_mapping_release(struct file_mapping *mapping);

/* False: nothing was read, use pread. May block, as that does. `fd` has the file open, whose
 * position is of no interest to anybody. Any thread. */
bool file_mapping_read(const struct file_mapping *mapping, int fd, void *to, uint32_t count,
                       uint64_t offset);

/* After pread has read this much: it is likely to be in the page cache now. */
void file_mapping_note_read(struct file_mapping *mapping, uint32_t count, uint64_t offset);

/* Before a hole is made: reading it through the mapping could give it memory again. */
void file_mapping_note_hole(struct file_mapping *mapping, uint32_t count, uint64_t offset);

/* When an instance of the plugin is loaded, and when it is unloaded. */
void file_mapping_load(void);
void file_mapping_unload(void);

#endif
