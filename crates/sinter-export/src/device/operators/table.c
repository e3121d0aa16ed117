
void sinter_table(int32_t length, const int8_t table[256], const int8_t *x, int8_t *y) {
    for (int32_t i = 0; i < length; i++) y[i] = table[x[i] + 128];
}
