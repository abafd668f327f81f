"""What C calls for layers whose weights have few bits."""

from __future__ import annotations

_SUMS_OF_EIGHT = """\
/* Sums of codes times weights, of four rows of these, one after another; inputs are a multiple of four. */
#define WEIGHT(w, i) (w)[i]
#if defined(__ARM_FEATURE_SIMD32) && defined(__GNUC__)
#include <arm_acle.h>
#include <string.h>

/* Where a code lies: each four in the order 0 2 1 3, since weights are drawn apart into pairs 0 2 and 1 3. */
#define PLACE(i) (((i) & ~3) | ((i) & 1) << 1 | ((i) >> 1 & 1))

static inline int32_t more(int32_t sum, const int8_t *w, int16x2_t first, int16x2_t second)
{
    int32_t four;
    int16x2_t odd;
    memcpy(&four, w, 4);
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(odd) : "r"(four));
    return __smlad(odd, second, __smlad(__sxtb16(four), first, sum));
}

__attribute__((always_inline)) static inline void sums(const int8_t *w, const int16_t *q, int inputs, int32_t s[4])
{
    int32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    int i;
    for (i = 0; i < inputs; i += 4, q += 4, w += 4) {
        int16x2_t first, second;
        memcpy(&first, q, 4), memcpy(&second, q + 2, 4);
        s0 = more(s0, w, first, second), s1 = more(s1, w + inputs, first, second);
        s2 = more(s2, w + 2 * inputs, first, second), s3 = more(s3, w + 3 * inputs, first, second);
    }
    s[0] = s0, s[1] = s1, s[2] = s2, s[3] = s3;
}
#else
#define PLACE(i) (i)

static inline void sums(const int8_t *w, const int16_t *q, int inputs, int32_t s[4])
{
    int32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    int i;
#if defined(__thumb__) && !defined(__thumb2__) /* eight registers: two sums at a time */
    for (i = 0; i < inputs; i++) s0 += q[i] * w[i], s1 += q[i] * w[inputs + i];
    for (i = 0, w += 2 * inputs; i < inputs; i++) s2 += q[i] * w[i], s3 += q[i] * w[inputs + i];
#else
    for (i = 0; i < inputs; i++) {
        const int32_t v = q[i];
        s0 += v * w[i], s1 += v * w[inputs + i];
        s2 += v * w[2 * inputs + i], s3 += v * w[3 * inputs + i];
    }
#endif
    s[0] = s0, s[1] = s1, s[2] = s2, s[3] = s3;
}
#endif

"""

_SUMS_OF_FOUR = """\
/* Sums of codes times weights, of four rows of these, one after another; inputs are a multiple of eight. A byte holds
 * two weights of four bits, the even input's low, read as 16 times what they are: the high one needs no shift. */
#define LOW(w) (int8_t)((w) << 4)
#define HIGH(w) (int8_t)((w) & 0xF0)
#define WEIGHT(w, i) ((i) & 1 ? HIGH((w)[(i) >> 1]) : LOW((w)[(i) >> 1]))
#if defined(__ARM_FEATURE_SIMD32) && defined(__GNUC__)
#include <arm_acle.h>
#include <string.h>

/* Where a code lies: each eight in the order 0 4 2 6 1 5 3 7, since weights are drawn apart into these pairs. */
#define PLACE(i) (((i) & ~5) | ((i) & 1) << 2 | ((i) >> 2 & 1))

static inline int32_t more(int32_t sum, const uint8_t *w, const int16x2_t pairs[4])
{
    uint32_t eight;
    int32_t low, high;
    int16x2_t odd;
    memcpy(&eight, w, 4);
    low = (int32_t)(eight << 4 & 0xF0F0F0F0u), high = (int32_t)(eight & 0xF0F0F0F0u);
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(odd) : "r"(low));
    sum = __smlad(odd, pairs[1], __smlad(__sxtb16(low), pairs[0], sum));
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(odd) : "r"(high));
    return __smlad(odd, pairs[3], __smlad(__sxtb16(high), pairs[2], sum));
}

__attribute__((always_inline)) static inline void sums(const uint8_t *w, const int16_t *q, int inputs, int32_t s[4])
{
    const int row = inputs / 2;
    int32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    int i;
    for (i = 0; i < inputs; i += 8, q += 8, w += 4) {
        int16x2_t pairs[4];
        memcpy(pairs, q, 16);
        s0 = more(s0, w, pairs), s1 = more(s1, w + row, pairs);
        s2 = more(s2, w + 2 * row, pairs), s3 = more(s3, w + 3 * row, pairs);
    }
    s[0] = s0, s[1] = s1, s[2] = s2, s[3] = s3;
}
#else
#define PLACE(i) (i)

static inline void sums(const uint8_t *w, const int16_t *q, int inputs, int32_t s[4])
{
    const int row = inputs / 2;
    int32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    int i;
#if defined(__thumb__) && !defined(__thumb2__) /* eight registers: two sums at a time */
    for (i = 0; i < row; i++) {
        const int32_t u = q[2 * i], v = q[2 * i + 1];
        s0 += u * LOW(w[i]) + v * HIGH(w[i]), s1 += u * LOW(w[row + i]) + v * HIGH(w[row + i]);
    }
    for (i = 0, w += 2 * row; i < row; i++) {
        const int32_t u = q[2 * i], v = q[2 * i + 1];
        s2 += u * LOW(w[i]) + v * HIGH(w[i]), s3 += u * LOW(w[row + i]) + v * HIGH(w[row + i]);
    }
#else
    for (i = 0; i < row; i++) {
        const int32_t u = q[2 * i], v = q[2 * i + 1];
        s0 += u * LOW(w[i]) + v * HIGH(w[i]), s1 += u * LOW(w[row + i]) + v * HIGH(w[row + i]);
        s2 += u * LOW(w[2 * row + i]) + v * HIGH(w[2 * row + i]);
        s3 += u * LOW(w[3 * row + i]) + v * HIGH(w[3 * row + i]);
    }
#endif
    s[0] = s0, s[1] = s1, s[2] = s2, s[3] = s3;
}
#endif

"""

#: By how many bits a weight has. On an Arm core with pairs of 16 bits (Cortex-M4, M7, M33) two products an instruction;
#: elsewhere loops that compilers vectorise, and that a Cortex-M0 has registers for. The same whole numbers either way.
SUMS = {8: _SUMS_OF_EIGHT, 4: _SUMS_OF_FOUR}
