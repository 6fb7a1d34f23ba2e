// Nothing of gloo's algorithms is used: see rendezvous/store.h.
#pragma once
