// The loops of rows.inc for processors with avx512; see build.rs for the flags.
#define ROWS rows_avx512
#include "rows.inc"
