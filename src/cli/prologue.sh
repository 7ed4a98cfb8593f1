#!/bin/sh
':' /* A shell runs these lines, which JavaScript takes for a comment.
# Reserves the free ones of descriptors 3 to 9 for plugins before Node takes them, and tells which
# signals were ignored and which standard streams were closed before Node changed that: inheritance.ts.
closed=
for fd in 0 1 2; do
  true 2>/dev/null 3<&$fd || closed=$closed$fd # dash has no objection to 0<&0
done
reserved=
for fd in 3 4 5 6 7 8 9; do
  if ! true 2>/dev/null <&$fd; then
    eval "exec $fd</dev/null"
    reserved=$reserved$fd
  fi
done
ignored=0
while read -r key value; do
  if [ "$key" = SigIgn: ]; then
    ignored=$value
    break
  fi
done 2>/dev/null </proc/self/status
export ASYNCNBD_RESERVED_FDS="$reserved" ASYNCNBD_IGNORED_SIGNALS="$ignored"
export ASYNCNBD_CLOSED_STREAMS="$closed"
exec node "$0" "$@"
*/;
