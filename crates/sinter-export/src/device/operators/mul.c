
void sinter_mul(const sinter_multiplication *m, const int8_t *a, const int8_t *b, int8_t *y) {
    SINTER_EACH(&m->broadcast, y, first, second) {
        const int32_t product = (a[first] - m->zeros[0]) * (b[second] - m->zeros[1]);
        *y = clamped(rescaled(product, m->rescale) + m->out_zero, m->low, m->high);
    }
}
