// Products with a frozen matrix that was packed for the CPU: see packed.cpp.
#pragma once
#include "shim.h"

// Whether products of so many tokens with w [out, in] read its packed copies.
bool is_packed(const Tensor& w, int64_t tokens);

// x W' + b, if `is_packed`: x [tokens, in], bias [out] or null.
Tensor packed_product(const Tensor& x, const Tensor& w, const Tensor* bias);

// dy W, if `is_packed`, plus `addend` [tokens, in] if it is not null: dy [tokens, out].
Tensor packed_product_back(const Tensor& dy, const Tensor& w, const Tensor* addend);
