// What libtorch's ProcessGroupGloo.hpp needs in order to compile. libtorch has gloo inside and ships that header, but none of
// gloo's own; no package has those of the version inside.
//
// These declarations decide nothing about memory: c10d::ProcessGroupGloo holds gloo's objects by pointer alone, and
// process_group.cpp neither makes nor calls one of them. What libtorch compiled with gloo's real headers is used through
// c10d's own classes. Every group computes a sum that is known before it is used (process_group.rs).
#pragma once

#include <chrono>
#include <string>
#include <vector>

namespace gloo {
namespace rendezvous {
class Store {
   public:
    virtual ~Store();
    virtual void set(const std::string& key, const std::vector<char>& value) = 0;
    virtual std::vector<char> get(const std::string& key) = 0;
    virtual void wait(const std::vector<std::string>& keys) = 0;
    virtual void wait(const std::vector<std::string>& keys, const std::chrono::milliseconds& timeout) = 0;
};
}  // namespace rendezvous
}  // namespace gloo
