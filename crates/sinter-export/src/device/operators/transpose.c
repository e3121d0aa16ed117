
void sinter_transpose(const int32_t shape[4], const int32_t order[4], const int8_t *x, int8_t *y) {
    const int32_t steps[4] = {shape[1] * shape[2] * shape[3], shape[2] * shape[3], shape[3], 1};
    for (int32_t i0 = 0; i0 < shape[order[0]]; i0++)
        for (int32_t i1 = 0; i1 < shape[order[1]]; i1++)
            for (int32_t i2 = 0; i2 < shape[order[2]]; i2++)
                for (int32_t i3 = 0; i3 < shape[order[3]]; i3++)
                    *y++ = x[i0 * steps[order[0]] + i1 * steps[order[1]] + i2 * steps[order[2]] + i3 * steps[order[3]]];
}
