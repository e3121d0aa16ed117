
void sinter_dense(int32_t rows, int32_t inputs, int32_t outputs, const sinter_product *p, const int8_t *x, int8_t *y) {
    for (int32_t row = 0; row < rows; row++, x += inputs) {
        const int8_t *weight = p->weight;
        for (int32_t channel = 0; channel < outputs; channel++, weight += inputs) {
            int32_t sum = p->bias[channel];
            for (int32_t i = 0; i < inputs; i++) sum += (x[i] - p->in_zero) * weight[i];
            *y++ = rounded(p, sum, channel);
        }
    }
}
