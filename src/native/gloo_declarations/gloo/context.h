// What ProcessGroupGloo.hpp calls of gloo's contexts: see rendezvous/store.h.
#pragma once

#include <chrono>
#include <memory>

namespace gloo {
class Context {
   public:
    void setTimeout(std::chrono::milliseconds timeout);
};
}  // namespace gloo
