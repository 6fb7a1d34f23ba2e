// Counts what the program asks of the device. The report is a file in memory, so that it is whole however the program
// ends: a line for each name, with a count of fixed width that is written anew in place.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <map>
#include <mutex>
#include <string>

#include "standin.h"
#include "switches.h"

namespace {

class Report {
   public:
    Report() {
        const char* path = switches::text("STANDIN_REPORT");
        if (!path) return;
        file_ = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        void* text = file_ < 0 ? MAP_FAILED : mmap(nullptr, MOST, PROT_READ | PROT_WRITE, MAP_SHARED, file_, 0);
        if (text == MAP_FAILED)
            std::fprintf(stderr, "stand-in: cannot write %s\n", path);
        else
            text_ = static_cast<char*>(text);
    }

    void add(const std::string& name) {
        if (!text_) return;
        std::lock_guard<std::mutex> held(lock_);
        auto [at, is_new] = counts_.try_emplace(name);
        Count& count = at->second;
        if (is_new) {
            const size_t length = name.size() + 1 + DIGITS + 1;
            if (length_ + length > MOST || ftruncate(file_, static_cast<off_t>(length_ + length)) != 0) return;
            std::memcpy(text_ + length_, name.data(), name.size());
            text_[length_ + name.size()] = ' ';
            count.digits = text_ + length_ + name.size() + 1;
            count.digits[DIGITS] = '\n';
            length_ += length;
        }
        if (!count.digits) return;
        char digits[DIGITS + 1];
        std::snprintf(digits, sizeof digits, "%0*ld", DIGITS, ++count.value);
        std::memcpy(count.digits, digits, DIGITS);
    }

   private:
    static constexpr size_t MOST = 1 << 20;
    static constexpr int DIGITS = 12;
    struct Count {
        long value = 0;
        char* digits = nullptr;
    };
    std::mutex lock_;
    std::map<std::string, Count> counts_;
    int file_ = -1;
    char* text_ = nullptr;
    size_t length_ = 0;
};

}  // namespace

extern "C" void standin_count(StandinEvent event, const char* name) {
    static const bool traces = switches::is_on("STANDIN_TRACE");
    // Never destroyed: threads of the program may still run while it ends.
    static Report* const report = new Report;
    static const char* const events[] = {"operations", "to-device", "to-host", "waits", "allocations", "modules"};
    if (traces) std::fprintf(stderr, "stand-in: %s: %s\n", events[event], name);
    report->add(events[event]);
    if (event == STANDIN_OPERATION) report->add(std::string("operation:") + name);
    if (event == STANDIN_ALLOCATION) report->add(std::string("allocation:") + name);
    if (event == STANDIN_MODULE) report->add(std::string("module:") + name);
}
