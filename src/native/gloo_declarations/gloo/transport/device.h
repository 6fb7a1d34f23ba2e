// Classes of gloo that ProcessGroupGloo.hpp points to: see ../rendezvous/store.h.
#pragma once

namespace gloo {
namespace transport {
class Device;
class UnboundBuffer;
}  // namespace transport
}  // namespace gloo
