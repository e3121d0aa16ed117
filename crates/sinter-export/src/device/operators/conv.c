
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
