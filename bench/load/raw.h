/* What a unix socket carries from one process to another without any protocol. */
#ifndef RAW_H
#define RAW_H

void raw_run(void);

#endif
