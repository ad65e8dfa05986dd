// SiLU and the parameter-free gate over the vector types of micro_kernel.h.
#pragma once

#include <concepts>

namespace pixeltier {

// Arithmetic of float vectors, Sum.
template <class V>
concept SmoothVector = requires(const typename V::Sum& a) {
  { V::zero() } -> std::same_as<typename V::Sum>;
  { V::constant(1.0f) } -> std::same_as<typename V::Sum>;
  { V::add(a, a) } -> std::same_as<typename V::Sum>;
  { V::subtract(a, a) } -> std::same_as<typename V::Sum>;
  { V::multiply(a, a) } -> std::same_as<typename V::Sum>;
  { V::multiply_add(a, a, a) } -> std::same_as<typename V::Sum>;  // a * b + c
  { V::divide(a, a) } -> std::same_as<typename V::Sum>;
  { V::at_most(a, a) } -> std::same_as<typename V::Sum>;  // limit, value; a NaN stays one
  { V::at_least(a, a) } -> std::same_as<typename V::Sum>;
  { V::nearest(a) } -> std::same_as<typename V::Sum>;   // the nearest whole number, for |a| < 2^22
  { V::scale(a, a) } -> std::same_as<typename V::Sum>;  // a * 2^n for whole n in [-125, 128], a in [1/2, 2]
};

namespace {

// e^x within 2 ulp for x >= -86, infinite from 88.73 on; for lesser x at most e^-86, which 1 + e^x does not
// show. The polynomial is that of the Cephes library (S. Moshier): e^r - 1 - r over r^2 for |r| <= ln(2) / 2.
template <class V>
inline typename V::Sum exponential(typename V::Sum x) {
  using Sum = typename V::Sum;
  x = V::at_least(V::constant(-86.0f), V::at_most(V::constant(88.9f), x));
  const Sum n = V::nearest(V::multiply(x, V::constant(1.44269504f)));
  Sum r =
      V::multiply_add(n, V::constant(-0.693359375f), x);  // ln(2) in two parts: the first product is exact
  r = V::multiply_add(n, V::constant(2.12194440e-4f), r);
  Sum p = V::constant(1.9875691500e-4f);
  for (float coefficient :
       {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f})
    p = V::multiply_add(p, r, V::constant(coefficient));
  p = V::add(V::multiply_add(V::multiply(p, r), r, r), V::constant(1.0f));
  return V::scale(p, n);
}

// v * sigmoid(v).
template <class V>
inline typename V::Sum silu(typename V::Sum v) {
  const auto e = exponential<V>(V::subtract(V::zero(), v));
  return V::divide(v, V::add(V::constant(1.0f), e));
}

// sum * (sigmoid(y) - 1/2).
template <class V>
inline typename V::Sum gate(typename V::Sum sum, typename V::Sum y) {
  const auto one = V::constant(1.0f), e = exponential<V>(V::subtract(V::zero(), y));
  return V::multiply(sum, V::subtract(V::divide(one, V::add(one, e)), V::constant(0.5f)));
}

}  // namespace
}  // namespace pixeltier
