/* planes.h - an input image of one scale: its largest value, and its planes side by side as bytes.
 * A part of kern.c. */
#ifndef LW_SRC_PLANES_H
#define LW_SRC_PLANES_H

static int32_t largest(const float *x, int64_t n) {
    vi top = vi_set(0), any = vi_set(0);
    int64_t j = 0;
    for (; j + VW <= n; j += VW) track(SIGNED, vf_load(x + j), &top, &any);
    if (j < n) track(SIGNED, vf_load_n(x + j, n - j), &top, &any);
    return vi_hmax(top);
}

/* Three levels below 256 make one float below 2^24, so that a lane holds a pixel exactly. */
INLINE vi interleave(const int c, const float *x, int64_t stride, int64_t n, vf factor) {
    vf zero = vf_set(128.0f), by = vf_set(256.0f), pixel = vf_set(0.0f);
    for (int j = c - 1; j >= 0; j--) {
        vf level = vf_add(vf_rint(vf_mul(vf_load_n(x + j * stride, n), factor)), zero);
        pixel = vf_fma(pixel, by, level);
    }
    return vf_round(pixel);
}

INLINE void planes_of(const int c, const float *x, int64_t stride, int64_t n, float factor,
                      uint8_t *q) {
    vf by = vf_set(factor);
    int64_t i = 0;
    if (c == 3)
        for (; i + VW <= n; i += VW) vi_store_u24(q + 3 * i, interleave(3, x + i, stride, VW, by));
    for (; i < n; i += VW) {
        int32_t pixels[VW];
        vi_store(pixels, interleave(c, x + i, stride, n - i, by));
        for (int64_t j = 0; j < VW && j < n - i; j++)
            for (int b = 0; b < c; b++) q[c * (i + j) + b] = (uint8_t)(pixels[j] >> 8 * b);
    }
}

static void planes(const float *x, int64_t stride, int64_t c, int64_t n, float factor, uint8_t *q) {
    switch (c) { /* at most LW_MAX_PLANES */
    case 1: planes_of(1, x, stride, n, factor, q); break;
    case 2: planes_of(2, x, stride, n, factor, q); break;
    default: planes_of(3, x, stride, n, factor, q);
    }
}

#endif
