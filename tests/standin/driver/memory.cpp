// Device memory: pages of the host, with a guard page before and behind each piece, full of NaN.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <map>
#include <mutex>
#include <string>

#include "standin.h"
#include "switches.h"

namespace {

struct Piece {
    int device;
    size_t bytes;
    char* pages;
    size_t mapped;
};

struct Device {
    size_t held = 0, peak = 0;
};

// Vectors of the host's loops are read unaligned; elements are not.
constexpr size_t ALIGNMENT = 16;

std::mutex lock;
Device devices[switches::MOST_DEVICES];

// By address. Never destroyed: tensors may be freed while the program ends.
std::map<uintptr_t, Piece>& pieces() {
    static auto* const all = new std::map<uintptr_t, Piece>;
    return *all;
}

size_t capacity() {
    static const size_t bytes = static_cast<size_t>(switches::number("STANDIN_MEMORY", 8LL << 30));
    return bytes;
}

// Whether this is the allocation that is to fail.
bool is_to_fail() {
    static const long long which = switches::number("STANDIN_FAILS_AT", 0);
    static long long count = 0;
    return ++count == which;
}

uintptr_t address(const void* memory) { return reinterpret_cast<uintptr_t>(memory); }

}  // namespace

extern "C" void* standin_allocate(int device, size_t bytes) {
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    const size_t rounded = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    const size_t body = (rounded + page - 1) / page * page, mapped = body + 2 * page;
    standin_count(STANDIN_ALLOCATION, ("cuda:" + std::to_string(device)).c_str());
    std::lock_guard<std::mutex> held(lock);
    Device& owner = devices[device];
    if (is_to_fail() || bytes > capacity() - std::min(capacity(), owner.held)) return nullptr;
    void* pages = mmap(nullptr, mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pages == MAP_FAILED) return nullptr;
    char* begin = static_cast<char*>(pages) + page;
    if (mprotect(begin, body, PROT_READ | PROT_WRITE) != 0) {
        munmap(pages, mapped);
        return nullptr;
    }
    char* memory = begin + body - rounded;
    std::memset(memory, 0xff, rounded);
    pieces()[address(memory)] = {device, bytes, static_cast<char*>(pages), mapped};
    owner.held += bytes;
    owner.peak = std::max(owner.peak, owner.held);
    return memory;
}

extern "C" void standin_free(void* memory) {
    std::lock_guard<std::mutex> held(lock);
    auto at = pieces().find(address(memory));
    if (at == pieces().end()) return;
    devices[at->second.device].held -= at->second.bytes;
    munmap(at->second.pages, at->second.mapped);
    pieces().erase(at);
}

extern "C" int standin_device_of(const void* memory) {
    std::lock_guard<std::mutex> held(lock);
    auto after = pieces().upper_bound(address(memory));
    if (after == pieces().begin()) return -1;
    auto& [begin, piece] = *std::prev(after);
    return address(memory) < begin + piece.bytes ? piece.device : -1;
}

extern "C" StandinMemory standin_memory(int device) {
    std::lock_guard<std::mutex> held(lock);
    Device& owner = devices[device];
    return {owner.held, owner.peak, capacity() - std::min(capacity(), owner.held), capacity()};
}

extern "C" void standin_reset_peak(int device) {
    std::lock_guard<std::mutex> held(lock);
    devices[device].peak = devices[device].held;
}
