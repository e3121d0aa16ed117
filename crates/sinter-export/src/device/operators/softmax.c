
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
