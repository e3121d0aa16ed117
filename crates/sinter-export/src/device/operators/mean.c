
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
