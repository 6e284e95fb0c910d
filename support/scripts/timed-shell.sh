#!/usr/bin/env bash
# A shell for make (`make SHELL=…`): runs a line of a recipe, and appends its seconds and its exit status to the file that PART_TIMES names.
start=$SECONDS
# A make that the line starts has a shell of its own.
env -u MAKEFLAGS -u MFLAGS bash -c "$2"
status=$?
printf '%s\t%s\t%s\n' "$((SECONDS - start))" "$status" "$2" >>"$PART_TIMES"
exit "$status"
