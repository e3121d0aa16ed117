/* Eight-bit kernels of Sinter: plain loops whose results are those of TensorFlow Lite Micro's reference kernels. */
#include "sinter_kernels.h"

/* x / 2^bits, down. Shifting a negative number to the right is left to the compiler in C99. */
static int32_t shift_down(int32_t x, int32_t bits) {
    return x >= 0 ? x >> bits : ~(~x >> bits);
}

static int32_t rescaled(int32_t x, sinter_rescale by) {
    int32_t left = by.shift > 0 ? by.shift : 0;
    int32_t right = by.shift > 0 ? 0 : -by.shift;
    int64_t wide = (int64_t)x * ((int64_t)1 << left);
    int32_t high, mask, threshold;
    if (wide > INT32_MAX) wide = INT32_MAX;
    if (wide < INT32_MIN) wide = INT32_MIN;
    wide *= by.multiplier;
    wide += wide >= 0 ? ((int64_t)1 << 30) : 1 - ((int64_t)1 << 30);
    high = (int32_t)(wide / ((int64_t)1 << 31));
    mask = (int32_t)(((int64_t)1 << right) - 1);
    threshold = shift_down(mask, 1) + (high < 0 ? 1 : 0);
    return shift_down(high, right) + ((high & mask) > threshold ? 1 : 0);
}

static int8_t clamped(int32_t x, int32_t low, int32_t high) {
    return (int8_t)(x < low ? low : x > high ? high : x);
}

static int8_t rounded(const sinter_product *p, int32_t sum, int32_t channel) {
    return clamped(rescaled(sum, p->rescales[channel * p->rescale_step]) + p->out_zero, p->low, p->high);
}

/* Calls `each` with the places of the result and of both inputs. */
#define SINTER_EACH(b, to, first, second)                                                                                     \
    for (int32_t i0 = 0; i0 < (b)->shape[0]; i0++)                                                                            \
        for (int32_t i1 = 0; i1 < (b)->shape[1]; i1++)                                                                        \
            for (int32_t i2 = 0; i2 < (b)->shape[2]; i2++)                                                                    \
                for (int32_t i3 = 0, first = i0 * (b)->steps[0][0] + i1 * (b)->steps[0][1] + i2 * (b)->steps[0][2],           \
                             second = i0 * (b)->steps[1][0] + i1 * (b)->steps[1][1] + i2 * (b)->steps[1][2];                  \
                     i3 < (b)->shape[3];                                                                                      \
                     i3++, (to)++, first += (b)->steps[0][3], second += (b)->steps[1][3])
