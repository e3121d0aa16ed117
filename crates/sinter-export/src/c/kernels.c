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

void sinter_conv(const sinter_window *w, int32_t groups, const sinter_product *p, const int8_t *x, int8_t *y) {
    const int32_t each = w->in_channels / groups, per = w->out_channels / groups;
    const int32_t size = w->kernel_height * w->kernel_width * each;
    for (int32_t row = 0; row < w->out_height; row++) {
        for (int32_t column = 0; column < w->out_width; column++) {
            const int32_t top = row * w->stride_height - w->pad_top, left = column * w->stride_width - w->pad_left;
            for (int32_t channel = 0; channel < w->out_channels; channel++) {
                const int8_t *weight = p->weight + channel * size;
                int32_t sum = p->bias[channel];
                for (int32_t i = 0; i < w->kernel_height; i++) {
                    const int32_t from_row = top + i * w->dilation_height;
                    if (from_row < 0 || from_row >= w->in_height) continue;
                    for (int32_t j = 0; j < w->kernel_width; j++) {
                        const int32_t from_column = left + j * w->dilation_width;
                        const int8_t *tap = weight + (i * w->kernel_width + j) * each;
                        const int8_t *from;
                        if (from_column < 0 || from_column >= w->in_width) continue;
                        from = x + (from_row * w->in_width + from_column) * w->in_channels + channel / per * each;
                        for (int32_t c = 0; c < each; c++) sum += (from[c] - p->in_zero) * tap[c];
                    }
                }
                *y++ = rounded(p, sum, channel);
            }
        }
    }
}

void sinter_depthwise(const sinter_window *w, const sinter_product *p, const int8_t *x, int8_t *y) {
    const int32_t multiplier = w->out_channels / w->in_channels;
    for (int32_t row = 0; row < w->out_height; row++) {
        for (int32_t column = 0; column < w->out_width; column++) {
            const int32_t top = row * w->stride_height - w->pad_top, left = column * w->stride_width - w->pad_left;
            for (int32_t channel = 0; channel < w->out_channels; channel++) {
                int32_t sum = p->bias[channel];
                for (int32_t i = 0; i < w->kernel_height; i++) {
                    const int32_t from_row = top + i * w->dilation_height;
                    if (from_row < 0 || from_row >= w->in_height) continue;
                    for (int32_t j = 0; j < w->kernel_width; j++) {
                        const int32_t from_column = left + j * w->dilation_width;
                        if (from_column < 0 || from_column >= w->in_width) continue;
                        sum += (x[(from_row * w->in_width + from_column) * w->in_channels + channel / multiplier] - p->in_zero) *
                               p->weight[(i * w->kernel_width + j) * w->out_channels + channel];
                    }
                }
                *y++ = rounded(p, sum, channel);
            }
        }
    }
}

void sinter_dense(int32_t rows, int32_t inputs, int32_t outputs, const sinter_product *p, const int8_t *x, int8_t *y) {
    for (int32_t row = 0; row < rows; row++, x += inputs) {
        const int8_t *weight = p->weight;
        for (int32_t channel = 0; channel < outputs; channel++, weight += inputs) {
            int32_t sum = p->bias[channel];
            for (int32_t i = 0; i < inputs; i++) sum += (x[i] - p->in_zero) * weight[i];
            *y++ = rounded(p, sum, channel);
        }
    }
}

void sinter_average_pool(const sinter_window *w, const int8_t *x, int8_t *y) {
    for (int32_t row = 0; row < w->out_height; row++) {
        for (int32_t column = 0; column < w->out_width; column++) {
            const int32_t top = row * w->stride_height - w->pad_top, left = column * w->stride_width - w->pad_left;
            for (int32_t channel = 0; channel < w->out_channels; channel++) {
                int32_t sum = 0, count = 0;
                for (int32_t i = top; i < top + w->kernel_height; i++) {
                    for (int32_t j = left; j < left + w->kernel_width; j++) {
                        if (i < 0 || i >= w->in_height || j < 0 || j >= w->in_width) continue;
                        sum += x[(i * w->in_width + j) * w->in_channels + channel];
                        count++;
                    }
                }
                *y++ = (int8_t)((sum > 0 ? sum + count / 2 : sum - count / 2) / (count > 0 ? count : 1));
            }
        }
    }
}

void sinter_max_pool(const sinter_window *w, const int8_t *x, int8_t *y) {
    for (int32_t row = 0; row < w->out_height; row++) {
        for (int32_t column = 0; column < w->out_width; column++) {
            const int32_t top = row * w->stride_height - w->pad_top, left = column * w->stride_width - w->pad_left;
            for (int32_t channel = 0; channel < w->out_channels; channel++) {
                int8_t most = INT8_MIN;
                for (int32_t i = top; i < top + w->kernel_height; i++) {
                    for (int32_t j = left; j < left + w->kernel_width; j++) {
                        int8_t value;
                        if (i < 0 || i >= w->in_height || j < 0 || j >= w->in_width) continue;
                        value = x[(i * w->in_width + j) * w->in_channels + channel];
                        if (value > most) most = value;
                    }
                }
                *y++ = most;
            }
        }
    }
}

void sinter_mean(int32_t outer, int32_t count, int32_t inner, int32_t in_zero, int32_t out_zero, sinter_rescale rescale,
                 const int8_t *x, int8_t *y) {
    for (int32_t o = 0; o < outer; o++) {
        for (int32_t i = 0; i < inner; i++) {
            int32_t sum = 0;
            for (int32_t n = 0; n < count; n++) sum += x[(o * count + n) * inner + i] - in_zero;
            y[o * inner + i] = clamped(rescaled(sum, rescale) + out_zero, -128, 127);
        }
    }
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

void sinter_add(const sinter_sum *s, const int8_t *a, const int8_t *b, int8_t *y) {
    SINTER_EACH(&s->broadcast, y, first, second) {
        const int32_t left = rescaled((a[first] - s->zeros[0]) * (1 << 20), s->rescales[0]);
        const int32_t right = rescaled((b[second] - s->zeros[1]) * (1 << 20), s->rescales[1]);
        *y = clamped(rescaled(left + s->sign * right, s->result) + s->out_zero, s->low, s->high);
    }
}

void sinter_mul(const sinter_multiplication *m, const int8_t *a, const int8_t *b, int8_t *y) {
    SINTER_EACH(&m->broadcast, y, first, second) {
        const int32_t product = (a[first] - m->zeros[0]) * (b[second] - m->zeros[1]);
        *y = clamped(rescaled(product, m->rescale) + m->out_zero, m->low, m->high);
    }
}

void sinter_concat(int32_t outer, int32_t length, int32_t whole, int32_t start, const int8_t *x, int8_t *y) {
    for (int32_t o = 0; o < outer; o++)
        for (int32_t i = 0; i < length; i++) y[o * whole + start + i] = x[o * length + i];
}

void sinter_pad(const int32_t shape[4], const int32_t before[4], const int32_t after[4], int8_t value, const int8_t *x, int8_t *y) {
    int32_t wide[4];
    for (int32_t a = 0; a < 4; a++) wide[a] = shape[a] + before[a] + after[a];
    for (int32_t i = 0; i < wide[0] * wide[1] * wide[2] * wide[3]; i++) y[i] = value;
    for (int32_t i0 = 0; i0 < shape[0]; i0++)
        for (int32_t i1 = 0; i1 < shape[1]; i1++)
            for (int32_t i2 = 0; i2 < shape[2]; i2++) {
                int8_t *to = y + (((i0 + before[0]) * wide[1] + i1 + before[1]) * wide[2] + i2 + before[2]) * wide[3] + before[3];
                for (int32_t i3 = 0; i3 < shape[3]; i3++) *to++ = *x++;
            }
}

void sinter_transpose(const int32_t shape[4], const int32_t order[4], const int8_t *x, int8_t *y) {
    const int32_t steps[4] = {shape[1] * shape[2] * shape[3], shape[2] * shape[3], shape[3], 1};
    for (int32_t i0 = 0; i0 < shape[order[0]]; i0++)
        for (int32_t i1 = 0; i1 < shape[order[1]]; i1++)
            for (int32_t i2 = 0; i2 < shape[order[2]]; i2++)
                for (int32_t i3 = 0; i3 < shape[order[3]]; i3++)
                    *y++ = x[i0 * steps[order[0]] + i1 * steps[order[1]] + i2 * steps[order[2]] + i3 * steps[order[3]]];
}

void sinter_softmax(int32_t rows, int32_t length, const uint32_t table[256], const int8_t *x, int8_t *y) {
    for (int32_t row = 0; row < rows; row++, x += length, y += length) {
        uint64_t sum = 0;
        int8_t top = INT8_MIN;
        for (int32_t i = 0; i < length; i++)
            if (x[i] > top) top = x[i];
        for (int32_t i = 0; i < length; i++) sum += table[top - x[i]];
        for (int32_t i = 0; i < length; i++) {
            const int32_t share = (int32_t)(((uint64_t)table[top - x[i]] * 256 + sum / 2) / sum);
            y[i] = (int8_t)(share > 255 ? 127 : share - 128);
        }
    }
}

void sinter_table(int32_t length, const int8_t table[256], const int8_t *x, int8_t *y) {
    for (int32_t i = 0; i < length; i++) y[i] = table[x[i] + 128];
}

void sinter_copy(int32_t length, const int8_t *x, int8_t *y) {
    for (int32_t i = 0; i < length; i++) y[i] = x[i];
}
