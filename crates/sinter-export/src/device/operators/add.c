
void sinter_add(const sinter_sum *s, const int8_t *a, const int8_t *b, int8_t *y) {
    SINTER_EACH(&s->broadcast, y, first, second) {
        const int32_t left = rescaled((a[first] - s->zeros[0]) * (1 << 20), s->rescales[0]);
        const int32_t right = rescaled((b[second] - s->zeros[1]) * (1 << 20), s->rescales[1]);
        *y = clamped(rescaled(left + s->sign * right, s->result) + s->out_zero, s->low, s->high);
    }
}
