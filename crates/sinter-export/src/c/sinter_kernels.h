/* Eight-bit kernels of Sinter: C99, no library, no allocation. Pictures are [height][width][channels]. */
#ifndef SINTER_KERNELS_H
#define SINTER_KERNELS_H

#include <stdint.h>

/* A factor: multiplier * 2^(shift - 31). */
typedef struct {
    int32_t multiplier;
    int32_t shift;
} sinter_rescale;

/* What a window slides over. */
typedef struct {
    int32_t in_height, in_width, in_channels;
    int32_t out_height, out_width, out_channels;
    int32_t kernel_height, kernel_width;
    int32_t stride_height, stride_width;
    int32_t dilation_height, dilation_width;
    int32_t pad_top, pad_left;
} sinter_window;

/* Sums of products and how they become eight bits. `rescales` holds one, or one an output channel: then `rescale_step` is 1. */
typedef struct {
    const int8_t *weight;
    const int32_t *bias;
    const sinter_rescale *rescales;
    int32_t rescale_step;
    int32_t in_zero, out_zero;
    int32_t low, high;
} sinter_product;

/* Two inputs that meet over four axes; a step of 0 repeats an axis. */
typedef struct {
    int32_t shape[4];
    int32_t steps[2][4];
} sinter_broadcast;

typedef struct {
    int32_t zeros[2];
    sinter_rescale rescales[2];
    int32_t sign; /* of the second input: 1 or -1 */
    int32_t out_zero;
    sinter_rescale result;
    int32_t low, high;
    sinter_broadcast broadcast;
} sinter_sum;

typedef struct {
    int32_t zeros[2];
    int32_t out_zero;
    sinter_rescale rescale;
    int32_t low, high;
    sinter_broadcast broadcast;
} sinter_multiplication;

/* weight: [out_channels][kernel_height][kernel_width][in_channels / groups] */
void sinter_conv(const sinter_window *window, int32_t groups, const sinter_product *product, const int8_t *x, int8_t *y);
/* weight: [kernel_height][kernel_width][out_channels] */
void sinter_depthwise(const sinter_window *window, const sinter_product *product, const int8_t *x, int8_t *y);
/* weight: [outputs][inputs] */
void sinter_dense(int32_t rows, int32_t inputs, int32_t outputs, const sinter_product *product, const int8_t *x, int8_t *y);
void sinter_average_pool(const sinter_window *window, const int8_t *x, int8_t *y);
void sinter_max_pool(const sinter_window *window, const int8_t *x, int8_t *y);
/* Means over the middle of [outer][count][inner]. */
void sinter_mean(int32_t outer, int32_t count, int32_t inner, int32_t in_zero, int32_t out_zero, sinter_rescale rescale,
                 const int8_t *x, int8_t *y);
void sinter_add(const sinter_sum *sum, const int8_t *a, const int8_t *b, int8_t *y);
void sinter_mul(const sinter_multiplication *product, const int8_t *a, const int8_t *b, int8_t *y);
/* Puts [outer][length] into [outer][whole] from `start` on. */
void sinter_concat(int32_t outer, int32_t length, int32_t whole, int32_t start, const int8_t *x, int8_t *y);
void sinter_pad(const int32_t shape[4], const int32_t before[4], const int32_t after[4], int8_t value, const int8_t *x, int8_t *y);
/* Axis i of the result is axis order[i] of x, whose lengths are `shape`. */
void sinter_transpose(const int32_t shape[4], const int32_t order[4], const int8_t *x, int8_t *y);
/* table[d] is exp(-d * scale) in 23 bits. */
void sinter_softmax(int32_t rows, int32_t length, const uint32_t table[256], const int8_t *x, int8_t *y);
/* y[i] = table[x[i] + 128] */
void sinter_table(int32_t length, const int8_t table[256], const int8_t *x, int8_t *y);
void sinter_copy(int32_t length, const int8_t *x, int8_t *y);

#endif
