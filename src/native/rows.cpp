// Chooses the loops of rows.h for the processor that the program runs on. For tests, LORHAI_LOOPS selects others
// than the best: "plain" or "avx2".
#include "rows.h"

#include <cstdlib>
#include <string>

extern const Rows rows_plain;
#ifdef __x86_64__
extern const Rows rows_avx2, rows_avx512;
#endif

static const Rows& chosen() {
#ifdef __x86_64__
    const char* value = std::getenv("LORHAI_LOOPS");
    std::string selected = value ? value : "";
    bool has_avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (has_avx512 && selected.empty()) return rows_avx512;
    bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (has_avx2 && selected != "plain") return rows_avx2;
#endif
    return rows_plain;
}

const Rows& rows() {
    static const Rows& table = chosen();
    return table;
}
