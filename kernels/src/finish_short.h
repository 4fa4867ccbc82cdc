/* finish_short.h - the same as finish.h for windows that are all of a pixel and half or a quarter
 * of a vector: two or four pixels fill one, and values go to levels without touching memory. A part
 * of kern.c for instruction sets that have the operations of parts. */
#ifndef LW_SRC_FINISH_SHORT_H
#define LW_SRC_FINISH_SHORT_H

#include "isa.h"

enum { SHORT = VW /* pixels that are finished together */ };

/* Pixels of a line from `c` on: sums, and what else is read and written. */
typedef struct shorts {
    const float *f, *residual, *residual_scale;
    const uint8_t *residual_q;
    float *dst, *scale;
    uint8_t *q;
} shorts;

/* Whether pixels are as short as that, in lines long enough, and adjacent where they are read. */
static int is_short(const lw_post *p) {
    const int64_t n = p->n;
    if (!p->q || p->rests || p->activation > LW_LEAKY ||
        (p->activation == LW_CLIP && !is_direct(p)))
        return 0;
    if ((n != VW / 2 && n != VW / 4) || p->window < n || p->count < SHORT) return 0;
    if (is_skewed(p->zero_point) && p->activation != LW_LEAKY) return 0;
    if (p->residual && p->residual_step.pixel != n) return 0;
    if (p->dst && p->dst_step.pixel != n) return 0;
    if (!p->residual_q) return 1;
    return p->residual_q_step.pixel == n && p->residual_scale_step.pixel == 1 &&
           p->first >> p->residual_shift == (p->first + n - 1) >> p->residual_shift;
}

INLINE shorts shorts_at(const lw_post *p, int line, int c, const float *f, lw_step step) {
    shorts s = {.f = f + line * step.line + c * step.pixel,
                .q = p->q + line * p->q_step.line + c * p->q_step.pixel,
                .scale = p->scale + line * p->scale_step.line + c * p->scale_step.pixel};
    if (p->residual) s.residual = p->residual + line * p->residual_step.line + c * p->n;
    if (p->residual_q) {
        s.residual_q = p->residual_q + line * p->residual_q_step.line + c * p->n;
        s.residual_scale = p->residual_scale + line * p->residual_scale_step.line + c +
                           (p->first >> p->residual_shift);
    }
    if (p->dst) s.dst = p->dst + line * p->dst_step.line + c * p->n;
    return s;
}

/* y of `parts` pixels, those of vector v; `plain`: sums are y; `limited`: of what finish_direct
 * sees.
 */
INLINE vf short_values(const int parts, const int v, const int plain, const int limited,
                       const lw_activation activation, const lw_post *p, const shorts *s,
                       ptrdiff_t step, vf sb, vf bias) {
    const float *f = s->f + v * parts * step;
    vf y = step == VW / parts ? vf_load(f) : vf_load_parts(parts, f, step);
    if (!plain && p->sb) y = vf_fma(y, sb, bias);
    if (!plain && s->residual) y = vf_add(y, vf_load(s->residual + v * VW));
    if (!plain && s->residual_q) {
        vi level = vi_add(vi_from_u8(s->residual_q + v * VW), vi_set(-p->residual_zero));
        vf scale = vf_spread(parts, v, vf_load(s->residual_scale));
        y = vf_fma(vf_from(level), scale, y);
    }
    y = limited ? vf_min(y, vf_set(p->hi))
                : activate(activation, y, vf_set(p->alpha), vf_set(p->lo), vf_set(p->hi));
    if (!plain && s->dst) vf_store(s->dst + v * VW, y);
    return y;
}

/* Four vectors of levels to their pixels, from pixel c on. */
INLINE void short_levels(const int parts, const lw_post *p, uint8_t *q, int c, const vi *level) {
    const int64_t n = VW / parts;
    const ptrdiff_t step = p->q_step.pixel;
    if (step == n) {
        vi_store4_u8(q + c * n, level);
        return;
    }
    uint8_t packed[4 * VW];
    vi_store4_u8(packed, level);
    for (int i = 0; i < 4 * parts; i++) memcpy(q + (c + i) * step, packed + i * n, (size_t)n);
}

/* SHORT pixels: values, scales, levels. Returns bits that tell infinity and NaN. */
INLINE vi short_group(const int parts, const int plain, const int limited,
                      const lw_activation activation, const range range, const int floor,
                      const int zero_point, const lw_post *p, const shorts *s, ptrdiff_t step,
                      vf sb, vf bias) {
    const int vectors = SHORT / parts;
    const ptrdiff_t apart = p->scale_step.pixel;
    vf y[SHORT / 2];
    vi top[SHORT / 2], any = vi_set(0);
    UNROLLED (v, vectors) {
        y[v] = short_values(parts, v, plain, limited, activation, p, s, step, sb, bias);
        top[v] = vi_set(0);
        track(range, weighed(range, y[v], above_of(range, zero_point)), top + v, &any);
    }
    vi tops = vi_hmax_parts(parts, top);
    vf scale = scale_of(tops, zero_point), factor = factor_of(tops, zero_point);
    if (apart == 1) {
        vf_store(s->scale, scale);
    } else {
        float found[VW];
        vf_store(found, scale);
        for (int i = 0; i < SHORT; i++) s->scale[i * apart] = found[i];
    }
    UNROLLED (b, vectors / 4) {
        vi level[4];
        UNROLLED (i, 4)
            level[i] = to_levels(floor && zero_point, zero_point, y[4 * b + i],
                                 vf_spread(parts, 4 * b + i, factor));
        short_levels(parts, p, s->q, 4 * b * parts, level);
    }
    return vi_max(vi_and(any, vi_set(0x7fffffff)), tops);
}

/* Pixels of a line that are finished in groups, of which the last may begin among the pixels of the
 * one before: not where results are written over a residual. */
static int short_pixels(const lw_post *p) {
    int over = (p->residual && p->residual == p->dst) || (p->residual_q && p->residual_q == p->q);
    return over ? p->count / SHORT * SHORT : p->count;
}

INLINE int finish_parts(const int parts, const int plain, const int limited,
                        const lw_activation activation, const range range, const int floor,
                        const int zero_point, const lw_post *p, const float *f, lw_step step) {
    const int last = short_pixels(p) - SHORT;
    vf sb = vf_set(1.0f), bias = vf_set(0.0f);
    vi any = vi_set(0);
    if (p->sb) sb = vf_load_parts(parts, p->sb, 0), bias = vf_load_parts(parts, p->bias, 0);
    for (int line = 0; line < p->lines; line++)
        for (int c = 0; c < last + SHORT; c += SHORT) {
            shorts s = shorts_at(p, line, c < last ? c : last, f, step);
            any = vi_max(any, short_group(parts, plain, limited, activation, range, floor,
                                          zero_point, p, &s, step.pixel, sb, bias));
        }
    return is_bad(any);
}

INLINE lw_status finish_parts_of(const int plain, const int limited, const lw_activation activation,
                                 const range range, const int floor, const int zero_point,
                                 const lw_post *p, const float *f, lw_step step) {
    int bad =
        p->n == VW / 2
            ? finish_parts(2, plain, limited, activation, range, floor, zero_point, p, f, step)
            : finish_parts(4, plain, limited, activation, range, floor, zero_point, p, f, step);
    return bad ? LW_NONFINITE : LW_OK;
}

/* Each case compiles to its own loop. */
INLINE lw_status finish_groups_of(const int plain, const lw_post *p, const float *f, lw_step step) {
    const int zero = p->zero_point, sign = zero != 0;
    if (is_skewed(zero)) return finish_parts_of(plain, 0, LW_LEAKY, SKEWED, 0, zero, p, f, step);
    if (p->activation == LW_CLIP)
        return sign ? finish_parts_of(plain, 1, LW_CLIP, NONNEGATIVE, 1, 128, p, f, step)
                    : finish_parts_of(plain, 1, LW_CLIP, NONNEGATIVE, 1, 0, p, f, step);
    if (p->activation == LW_LEAKY)
        return sign ? finish_parts_of(plain, 0, LW_LEAKY, SIGNED, 0, 128, p, f, step)
                    : finish_parts_of(plain, 0, LW_LEAKY, CLAMPED, 1, 0, p, f, step);
    if (p->activation == LW_NONE)
        return sign ? finish_parts_of(plain, 0, LW_NONE, SIGNED, 0, 128, p, f, step)
                    : finish_parts_of(plain, 0, LW_NONE, CLAMPED, 1, 0, p, f, step);
    if (sign)
        return is_direct(p) ? finish_parts_of(plain, 0, LW_NONE, NONNEGATIVE, 1, 128, p, f, step)
                            : finish_parts_of(plain, 0, LW_RELU, SIGNED, 0, 128, p, f, step);
    return p->dst ? finish_parts_of(plain, 0, LW_RELU, NONNEGATIVE, 0, 0, p, f, step)
                  : finish_parts_of(plain, 0, LW_NONE, NONNEGATIVE, 1, 0, p, f, step);
}

/* Whether there is a scale, a residual or a result in floats is not asked for every vector. */
static NOINLINE lw_status finish_groups(const lw_post *p, const float *f, lw_step step) {
    return p->sb || p->residual || p->residual_q || p->dst ? finish_groups_of(0, p, f, step)
                                                           : finish_groups_of(1, p, f, step);
}

static lw_status finish(const lw_post *p, float *f, lw_step step);

/* Pixels of a line from c on, fewer than SHORT, whose sums are moved apart for whole stores. */
static lw_status finish_rest(const lw_post *p, int line, int c, const float *f, lw_step step) {
    const shorts s = shorts_at(p, line, c, f, step);
    float apart[SHORT * VW];
    lw_post rest = *p;
    rest.lines = 1, rest.count = p->count - c;
    rest.residual = s.residual, rest.residual_q = s.residual_q, rest.dst = s.dst;
    rest.q = s.q, rest.scale = s.scale;
    if (p->residual_q) rest.residual_scale = s.residual_scale - (p->first >> p->residual_shift);
    for (int i = 0; i < rest.count; i++)
        vf_store(apart + i * VW, vf_load_n(s.f + i * step.pixel, p->n));
    return finish(&rest, apart, (lw_step){0, VW});
}

static lw_status finish_short(const lw_post *p, const float *f, lw_step step) {
    const int done = short_pixels(p);
    lw_status status = finish_groups(p, f, step);
    for (int line = 0; done < p->count && line < p->lines; line++)
        if (finish_rest(p, line, done, f, step)) status = LW_NONFINITE;
    return status;
}

#endif
