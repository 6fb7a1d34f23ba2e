// The switches of the stand-in: environment variables (README.md).
#pragma once
#include <cstdlib>
#include <cstring>

namespace switches {

inline const char* text(const char* name) {
    const char* value = std::getenv(name);
    return value && *value ? value : nullptr;
}

inline long long number(const char* name, long long otherwise) {
    const char* value = text(name);
    return value ? std::atoll(value) : otherwise;
}

inline bool is_on(const char* name) { return number(name, 0) != 0; }

constexpr int MOST_DEVICES = 8;

inline int devices() {
    static const long long count = number("STANDIN_GPUS", 1);
    return count < 0 ? 0 : count > MOST_DEVICES ? MOST_DEVICES : static_cast<int>(count);
}

}  // namespace switches
