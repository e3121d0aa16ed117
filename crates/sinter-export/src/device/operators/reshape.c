
void sinter_copy(int32_t length, const int8_t *x, int8_t *y) {
    for (int32_t i = 0; i < length; i++) y[i] = x[i];
}
