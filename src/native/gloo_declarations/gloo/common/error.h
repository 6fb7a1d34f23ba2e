// Nothing of gloo's errors is used: see ../rendezvous/store.h.
#pragma once
