#!/bin/sh
# Prints the file $1 as C: the bytes of the launcher. Without a file they are none.
set -eu
echo '#include "node/launcher.h"'
echo 'const unsigned char launcher_bytes[] = {'
if [ -n "${1-}" ]; then
    od -An -v -tx1 "$1" | sed 's/ \([0-9a-f][0-9a-f]\)/0x\1,/g'
    echo '};'
    echo 'const size_t launcher_length = sizeof launcher_bytes;'
else
    echo '0};'
    echo 'const size_t launcher_length = 0;'
fi
