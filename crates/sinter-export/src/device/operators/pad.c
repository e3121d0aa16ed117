
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
