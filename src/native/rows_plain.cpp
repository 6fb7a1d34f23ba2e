// The loops of rows.inc for any processor; see build.rs for the flags.
#define ROWS rows_plain
#include "rows.inc"
