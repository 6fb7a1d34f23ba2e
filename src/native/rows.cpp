// Chooses the loops of rows.h for the processor that the program runs on. LORHAI_LOOPS names other
// ones than the best, for tests: "plain" or "avx2".
#include "rows.h"

#include <cstdlib>
#include <string>

extern const Rows rows_plain;
#ifdef __x86_64__
extern const Rows rows_avx2, rows_avx512;
#endif

static const Rows& chosen() {
#ifdef __x86_64__
    const char* named = std::getenv("LORHAI_LOOPS");
    std::string wanted = named ? named : "";
    bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (wide && wanted.empty()) return rows_avx512;
    bool middle = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (middle && wanted != "plain") return rows_avx2;
#endif
    return rows_plain;
}

const Rows& rows() {
    static const Rows& table = chosen();
    return table;
}
