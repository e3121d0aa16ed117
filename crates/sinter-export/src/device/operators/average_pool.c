
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
