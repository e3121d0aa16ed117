
void sinter_concat(int32_t outer, int32_t length, int32_t whole, int32_t start, const int8_t *x, int8_t *y) {
    for (int32_t o = 0; o < outer; o++)
        for (int32_t i = 0; i < length; i++) y[o * whole + start + i] = x[o * length + i];
}
